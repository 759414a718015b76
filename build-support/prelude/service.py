"""What the BUILD files of all services have in common."""

_ANYBODY = ("//libs/**", "//protos/gen/**", "//3rdparty/**")
_TESTS = ("//tools/localmesh/**", "//conftest.py")


def service(name, module=None):
    """A service knows itself, the library and the protos, never another service; its tests start real parts, too.

    `module` is the package whose `main` is the program; a service without one is no program yet.
    """
    itself = f"//services/{name}/**"
    __dependencies_rules__(
        (({"type": "python_tests"}, {"type": "python_test_utils"}), itself, *_ANYBODY, *_TESTS, "!*"),
        ("*", itself, *_ANYBODY, "!*"),
    )
    if module is not None:
        pex_binary(name="bin", entry_point=f"{module}.main", resolve="default", output_path=f"services/{name}.pex")
