"""The ground floor: dtypes, errors, linking, memory, session resources. Imports nothing of ours."""
