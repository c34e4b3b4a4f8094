"""The Lambda handlers: each wires the ports, calls the library and answers."""
