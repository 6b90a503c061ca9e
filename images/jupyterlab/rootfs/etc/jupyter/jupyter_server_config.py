"""How JupyterLab serves inside a Berth workspace."""

import os

c = get_config()  # noqa: F821 -- given by Jupyter's loader

c.ServerApp.ip = "*"
c.ServerApp.port = int(os.environ.get("BERTH_PORT") or 8888)
c.ServerApp.port_retries = 0
c.ServerApp.base_url = os.environ.get("BERTH_BASE_PATH") or "/"
c.ServerApp.open_browser = False

# The gateway in front shows that it is one; a person without it types the same token (docs/images.md). Jupyter's own token and
# password are off. The check against forged requests from other sites (XSRF) stays on, and so does the check of a
# WebSocket's origin.
c.ServerApp.identity_provider_class = "berth_jupyter.Provider"
c.ServerApp.allow_unauthenticated_access = False
c.IdentityProvider.token = ""
# The name in the Host header is the one that people see, and so is the scheme.
c.ServerApp.allow_remote_access = True
c.ServerApp.trust_xheaders = True

home = os.environ.get("HOME") or "/home/user"
c.ServerApp.root_dir = home
c.FileContentsManager.preferred_dir = os.path.join(home, "work")

# No timers in here: one authority outside decides when idleness ends a session. Nor a button that stops the server.
c.ServerApp.shutdown_no_activity_timeout = 0
c.MappingKernelManager.cull_idle_timeout = 0
c.TerminalManager.cull_inactive_timeout = 0
c.ServerApp.quit_button = False

# Extensions come with the image: installing one needs a tool chain that is not here.
c.LabApp.extension_manager = "readonly"
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.news_url = None
