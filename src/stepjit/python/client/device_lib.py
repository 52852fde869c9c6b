"""The devices of this process: `device_lib.list_local_devices()`."""

from __future__ import annotations

from typing import Any

from stepjit.proto import MESSAGES
from stepjit.session.config import read_config
from stepjit.session.devices import Placement


def list_local_devices(session_config: Any = None) -> list[Any]:
    """A DeviceAttributes message for each device that a session with this config (a ConfigProto or None) has."""
    return [
        MESSAGES["DeviceAttributes"](
            name=device.name.removeprefix("/job:localhost/replica:0/task:0"),
            device_type=device.device_type,
            memory_limit=device.memory_limit_bytes,
            incarnation=device.incarnation,
        )
        for device in Placement(read_config(session_config)).devices()
    ]
