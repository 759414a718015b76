"""What the BUILD files of all services have in common."""

_ANYBODY = ("//libs/**", "//protos/gen/**", "//3rdparty/**")


def service(name, module):
    """A service knows itself, the library and the protos, never another service; its tests start real parts, too."""
    itself = f"//services/{name}/**"
    __dependencies_rules__(
        (({"type": "python_tests"}, {"type": "python_test_utils"}), itself, *_ANYBODY, "//tools/localmesh/**", "!*"),
        ("*", itself, *_ANYBODY, "!*"),
    )
    pex_binary(name="bin", entry_point=f"{module}.main", resolve="default", output_path=f"services/{name}.pex")
