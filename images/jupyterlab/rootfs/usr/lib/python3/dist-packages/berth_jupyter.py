"""Who may use this JupyterLab: the gateway, which shows the Workspace's token in a header, and whoever has typed that
token into Jupyter's login form. docs/images.md has the contract."""

import fcntl
import hashlib
import hmac
import json
import os

from jupyter_core.utils import ensure_async
from jupyter_server.auth.decorator import allow_unauthenticated
from jupyter_server.auth.identity import IdentityProvider, User
from jupyter_server.auth.login import LoginFormHandler
from jupyter_server.base.handlers import APIVersionHandler, FileFindHandler
from tornado import web
from tornado.websocket import WebSocketHandler

FOLDER = "/run/berth"
HEADER = "Berth-Proxy"
BUSY_HEADER = "Berth-Busy"
BUSY_LOCK = "/tmp/berth-busy"


def said(file):
    """What Berth says in one of its files, or nothing. Read anew each time: the token may be replaced, and an instance that
    is kept warm learns its user late. The files are short, and in memory."""
    try:
        with open(os.path.join(FOLDER, file), encoding="utf-8") as opened:
            return opened.read().strip()
    except OSError:
        return ""


def same(one, other):
    """Whether two texts are the same and not empty, in a time that does not tell how much of them is."""
    return bool(other) and hmac.compare_digest(one.encode(), other.encode())


def refuse(handler, why):
    """Answers 403. Nobody is the user by then: the page that says so asks who is. As a reason and not as a message for the log,
    with which Tornado would write down the whole address."""
    handler.current_user = handler._jupyter_current_user = None
    raise web.HTTPError(403, reason=why)


def locked():
    """Whether a command runs under `berth-busy`."""
    try:
        with open(BUSY_LOCK, encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


async def busy(handler):
    """Whether something runs here that a person waits for: a cell, in a browser or without one, or a command."""
    kernels = await ensure_async(handler.kernel_manager.list_kernels())
    return any(kernel["execution_state"] == "busy" for kernel in kernels) or locked()


class Ready(APIVersionHandler):
    """What the readiness probe asks, which has no token: that the server answers, and to a stranger nothing else."""

    @allow_unauthenticated
    def get(self):
        if self.current_user is None:
            self.finish("{}")
        else:
            super().get()


class Provider(IdentityProvider):
    """Nobody is authenticated in the way that Jupyter calls token-authenticated, which would switch off its checks against
    requests that other sites forge: the gateway puts its header on those too. So a cookie and a header with Jupyter's
    own XSRF token are needed here as anywhere, and WebSockets of the same origin."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        # Said once, at the start: a token that vanishes later opens nothing.
        self.open = os.environ.get("BERTH_INSECURE") == "1" and not said("proxy-token")

    @property
    def auth_enabled(self):
        return not self.open

    def user(self):
        name = said("user") or "user"
        return User(username=name, name=name, display_name=name)

    async def get_user(self, handler):
        headers = handler.request.headers.get_list(HEADER)
        if headers:
            # Two of them are two opinions. A gateway with an old token is told so, rather than shown a form.
            if len(headers) != 1 or not same(headers[0], said("proxy-token")):
                refuse(handler, f"{HEADER} does not have this workspace's token")
            if not isinstance(handler, WebSocketHandler) and await busy(handler):
                handler.set_header(BUSY_HEADER, "true")
            return self.user()
        if handler.get_query_argument("token", None) is not None:
            # Addresses are written down: in histories, in logs, and in those of the next site.
            refuse(handler, "No token is taken from an address: type it into the login form")
        user = self.user() if self.open else self.get_user_cookie(handler)
        if user is None and not self.for_strangers(handler):
            refuse(handler, "Only the gateway is let in")
        return user

    def for_strangers(self, handler):
        """Whether somebody unknown may go on: to the probe, to the form and what it is drawn with, and from a page to the form.
        Jupyter has more that is for everybody, and tells which files there are."""
        if isinstance(handler, (Ready, LoginFormHandler)):
            return True
        below = handler.request.path.removeprefix(handler.base_url)
        if isinstance(handler, FileFindHandler):
            return below.startswith("static/")
        method = getattr(handler, handler.request.method.lower(), None)
        return not below.startswith("api/") and not getattr(method, "__allow_unauthenticated", False)

    def get_handlers(self):
        # Jupyter's own handlers come after these, so that this one answers in place of its own.
        return [("/api", Ready), *super().get_handlers()]

    def process_login_form(self, handler):
        typed = handler.get_body_argument("password", default="")
        return self.user() if same(typed, said("proxy-token")) else None

    # A cookie is worth as much as the token that was typed: it ends with it. Jupyter signs it, with a key of this start.

    def proof(self):
        return hmac.new(said("proxy-token").encode(), b"login", hashlib.sha256).hexdigest()

    def user_to_cookie(self, user):
        return json.dumps({"proof": self.proof()})

    def user_from_cookie(self, cookie_value):
        known = said("proxy-token") and same(str(json.loads(cookie_value).get("proof")), self.proof())
        return self.user() if known else None
