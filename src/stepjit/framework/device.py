"""Device strings: parsing, merging field by field, and TF's canonical form."""

from __future__ import annotations

from typing import Any


class DeviceSpec:
    """A device by its fields, each None where not given: `/job:w/replica:0/task:1/device:CPU:0`."""

    __slots__ = ("device_index", "device_type", "job", "replica", "task")

    def __init__(
        self,
        job: str | None = None,
        replica: int | None = None,
        task: int | None = None,
        device_type: str | None = None,
        device_index: int | None = None,
    ) -> None:
        self.job = job or None
        self.replica = None if replica is None else int(replica)
        self.task = None if task is None else int(task)
        self.device_type = device_type.upper() if device_type else None
        self.device_index = None if device_index is None else int(device_index)

    @classmethod
    def from_string(cls, text: str) -> DeviceSpec:
        """The device that `text` names; ValueError when it names none."""
        return cls().parse_from_string(text)

    def parse_from_string(self, text: str) -> DeviceSpec:
        """Set every field from `text`."""
        self.job = self.device_type = None
        self.replica = self.task = self.device_index = None
        for part in text.split("/"):
            fields = part.split(":")
            try:
                self._parse_field(fields)
            except (ValueError, IndexError):
                raise ValueError(f"Unknown attribute {fields[0]!r} in the device {text!r}") from None
        return self

    def _parse_field(self, fields: list[str]) -> None:
        key = fields[0]
        if not key and len(fields) == 1:
            return
        if key == "job":
            self.job = fields[1] or None
        elif key == "replica":
            self.replica = int(fields[1])
        elif key == "task":
            self.task = int(fields[1])
        elif key == "device" and len(fields) == 3:
            self.device_type = fields[1].upper() if fields[1] != "*" else None
            self.device_index = None if fields[2] == "*" else int(fields[2])
        elif key.upper() in ("CPU", "GPU", "TPU", "XLA_CPU", "XLA_GPU") and len(fields) <= 2:
            self.device_type = key.upper()
            self.device_index = None if len(fields) == 1 or fields[1] == "*" else int(fields[1])
        else:
            raise ValueError(key)

    def merge_from(self, other: DeviceSpec) -> None:
        """Take over every field that `other` has."""
        for field in self.__slots__:
            value = getattr(other, field)
            if value is not None:
                setattr(self, field, value)

    def make_merged_spec(self, other: DeviceSpec) -> DeviceSpec:
        """A new spec: the fields of `other`, and this one's where it has none."""
        result = DeviceSpec(*self._key())
        result.merge_from(other)
        return result

    def replace(self, **fields: Any) -> DeviceSpec:
        """A new spec with some fields changed."""
        return DeviceSpec(**{name: getattr(self, name) for name in DeviceSpec.__slots__} | fields)

    def _key(self) -> tuple[Any, ...]:
        return self.job, self.replica, self.task, self.device_type, self.device_index

    def to_string(self) -> str:
        text = "" if self.job is None else f"/job:{self.job}"
        text += "" if self.replica is None else f"/replica:{self.replica}"
        text += "" if self.task is None else f"/task:{self.task}"
        if self.device_type is not None:
            text += f"/device:{self.device_type}:{'*' if self.device_index is None else self.device_index}"
        return text

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceSpec) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"DeviceSpec({self.to_string()!r})"

    __str__ = to_string


def as_text(device: Any) -> str:
    """A device string from a string, a DeviceSpec or None."""
    if device is None:
        return ""
    return device.to_string() if isinstance(device, DeviceSpec) else str(device)


def canonical(text: str) -> str:
    """TF's form of a device string: `/cpu:1` becomes `/device:CPU:1`; ValueError when it names no device."""
    return DeviceSpec.from_string(text).to_string()


def merge(outer: str, inner: str) -> str:
    """The fields of `inner`, and those of `outer` where it has none."""
    if not outer or not inner:
        return canonical(outer or inner)
    return DeviceSpec.from_string(outer).make_merged_spec(DeviceSpec.from_string(inner)).to_string()
