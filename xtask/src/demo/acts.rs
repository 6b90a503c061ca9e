//! The story: what is launched, what happens to it, and what must be true of it each time.

use super::feed::is_true;
use super::reach::Forward;
use super::rfb;
use super::stage::{INSTANCES, NAMESPACE, Seen, Stage, names, text};
use anyhow::Result;
use serde_json::Value;

/// A picture with fewer colours than this is a background, or noise.
const DRAWN: usize = 32;

/// Plays all acts, in their order.
pub fn all(stage: &mut Stage<'_>) -> Result<()> {
    available(stage)?;
    let live = launches(stage)?;
    idleness(stage)?;
    termination(stage, &live.jupyterlab)?;
    let second = queue(stage, &live.desktop)?;
    one_off(stage)?;
    nothing_left(stage, &[&live.machine, &second])
}

/// The sessions of the first act that the others go on with.
struct Live {
    desktop: String,
    jupyterlab: String,
    machine: String,
}

/// The Workspaces of `examples/`.
const WORKSPACES: [&str; 5] = ["desktop", "jupyterlab", "kiosk", "machine", "one-off"];

/// That every Workspace can be launched, before the first launch.
fn available(stage: &mut Stage<'_>) -> Result<()> {
    stage.holds("every Workspace of examples/ is Available: what it would launch is accepted", |stage| {
        let workspaces = stage.list("workspaces", &[])?;
        let fit = |workspace: &Value| is_true(workspace, "TemplateValid") && phase(workspace) == "Available";
        let named = |name: &&str| workspaces.iter().any(|w| text(w, "/metadata/name") == *name && fit(w));
        let missing: Vec<_> = WORKSPACES.iter().filter(|name| !named(name)).collect();
        Ok(Seen::of(missing.is_empty(), format!("not so: {missing:?}")))
    })
}

fn launches(stage: &mut Stage<'_>) -> Result<Live> {
    stage.say.heading("1. A launch of each kind");
    stage.say.line("A desktop and a JupyterLab, each in a pod of its own, and a machine that exists already.");
    stage.feed.head();
    let live = Live {
        desktop: stage.launch("desktop")?,
        jupyterlab: stage.launch("jupyterlab")?,
        machine: stage.launch("machine")?,
    };
    let desktop = usable(stage, &live.desktop)?;
    let jupyterlab = usable(stage, &live.jupyterlab)?;
    let machine = usable(stage, &live.machine)?;
    instance(stage, &desktop)?;
    instance(stage, &jupyterlab)?;
    stage.evidence("the machine's session has no pod, and says where the machine is", |stage| {
        let (pods, url) = (stage.pods_of(&machine)?, text(&machine, "/status/url"));
        let none = pods.is_empty() && machine["status"]["instance"].is_null();
        Ok(Seen::of(none && url == "http://10.96.0.80:8080", format!("pods: {}; url: {url}", names(&pods))))
    })?;
    draws(stage, &desktop)?;
    answers(stage, &jupyterlab)?;
    for session in [&desktop, &jupyterlab, &machine] {
        stage.told(session, "Active")?;
    }
    stage.holds("the desktop, which takes one session, is in use", |stage| workspace(stage, "desktop", "InUse"))?;
    stage.table(&["get", "workspaces", "-n", NAMESPACE])?;
    Ok(live)
}

fn idleness(stage: &mut Stage<'_>) -> Result<()> {
    stage.say.heading("2. Nobody there: a warning, then the disconnect");
    stage
        .say
        .line("The kiosk is under the policy `short`: idle after 5 s, warned after 10 s, disconnected after 25 s.");
    stage.feed.head();
    let name = stage.launch("kiosk")?;
    usable(stage, &name)?;
    stage.until(&name, Some("is Idle"), |s| phase(s) == "Idle")?;
    let warned = stage.until(&name, Some("is warned: EndingSoon"), |s| is_true(s, "EndingSoon"))?;
    stage.evidence("the warning came before the end and names it", |_| {
        let (deadline, message) = (text(&warned, "/status/disconnectAt"), text(&warned, "/status/message"));
        let named = !deadline.is_empty() && message.contains(deadline) && message.contains("IdleTimeout");
        Ok(Seen::of(named && warned["status"]["endedAt"].is_null(), &warned["status"]))
    })?;
    let ended = ended(stage, &name, "Disconnected", "IdleTimeout")?;
    stage.told(&ended, "EndingSoon")?;
    stage.told(&ended, "IdleTimeout")?;
    stage.released(&ended)
}

fn termination(stage: &mut Stage<'_>, name: &str) -> Result<()> {
    stage.say.heading("3. An administrator ends a session");
    stage.say.line("JupyterLab's volume has `retention: Delete`: it goes with the pod.");
    stage.feed.head();
    stage.end(name, "Terminated")?;
    let ended = ended(stage, name, "Terminated", "AdministratorEnded")?;
    stage.told(&ended, "AdministratorEnded")?;
    stage.released(&ended)?;
    stage.holds("its volume claim is gone with it", |stage| {
        let pod = text(&ended, "/status/instance/pod");
        let claims = stage.list("persistentvolumeclaims", &[])?;
        Ok(Seen::of(claims.iter().all(|claim| !text(claim, "/metadata/name").starts_with(pod)), names(&claims)))
    })
}

/// Returns the session that waited and then got the slot.
fn queue(stage: &mut Stage<'_>, first: &str) -> Result<String> {
    stage.say.heading("4. A queue: the second waits for the first");
    stage.say.line("The desktop takes one session. Ben wants it while Ana has it; when Ana leaves, it is his.");
    stage.feed.head();
    let second = stage.launch("desktop-second")?;
    let waits = stage.until(&second, Some("waits in Pending"), |s| {
        phase(s) == "Pending" && !text(s, "/status/message").is_empty()
    })?;
    stage.evidence("it says what it waits for, and has no pod", |stage| {
        let pods = stage.pods_of(&waits)?;
        let told = waits["status"]["conditions"].as_array().into_iter().flatten();
        let slot = told.filter(|c| c["type"] == "Admitted" && c["status"] == "False").any(|c| c["reason"] == "NoSlot");
        Ok(Seen::of(slot && pods.is_empty(), format!("pods: {}; {:#}", names(&pods), waits["status"])))
    })?;
    stage.told(&waits, "NoSlot")?;
    stage.end(first, "Disconnected")?;
    let ended = ended(stage, first, "Disconnected", "UserDisconnected")?;
    let second_session = usable(stage, &second)?;
    stage.released(&ended)?;
    instance(stage, &second_session)?;
    stage.holds("Ana's home is kept for her next session", |stage| {
        let of_workspace = format!("--selector=berth.dev/workspace-uid={}", text(&ended, "/status/workspace/uid"));
        let claims = stage.list("persistentvolumeclaims", &[&of_workspace])?;
        let hers = |claim: &&Value| claim["metadata"]["annotations"]["berth.dev/user"] == "ana@example.com";
        Ok(Seen::of(claims.iter().filter(hers).count() == 1, names(&claims)))
    })?;
    Ok(second)
}

fn one_off(stage: &mut Stage<'_>) -> Result<()> {
    stage.say.heading("5. A one-off: the Workspace goes with its session");
    stage.feed.head();
    // An earlier run has ended the one that was there.
    stage.shown(&["apply", "-f", "examples/20-one-off.yaml"])?;
    let before = stage.list("workspaces", &["--field-selector=metadata.name=one-off"])?;
    let name = stage.launch("one-off")?;
    usable(stage, &name)?;
    stage.end(&name, "Disconnected")?;
    let ended = ended(stage, &name, "Disconnected", "UserDisconnected")?;
    stage.holds("the Workspace one-off is deleted", |stage| {
        let left = stage.list("workspaces", &["--field-selector=metadata.name=one-off"])?;
        Ok(Seen::of(left.is_empty(), names(&left)))
    })?;
    for workspace in &before {
        stage.told(workspace, "Reclaimed")?;
    }
    stage.released(&ended)?;
    stage.evidence("its session is kept as history", |stage| {
        let left = stage.list("sessions", &[&format!("--field-selector=metadata.name={name}")])?;
        Ok(Seen::of(left.len() == 1, names(&left)))
    })
}

fn nothing_left(stage: &mut Stage<'_>, live: &[&str]) -> Result<()> {
    stage.say.heading("6. The end: no instance is left");
    stage.feed.head();
    for name in live {
        stage.end(name, "Disconnected")?;
        ended(stage, name, "Disconnected", "UserDisconnected")?;
    }
    stage.holds("no session is live", |stage| {
        let live = stage.list("sessions", &["--field-selector=status.endedAt="])?;
        Ok(Seen::of(live.is_empty(), names(&live)))
    })?;
    stage.holds("no instance is left", |stage| {
        let pods = stage.list("pods", &[INSTANCES])?;
        Ok(Seen::of(pods.is_empty(), names(&pods)))
    })?;
    stage.evidence("nothing holds an ended session", |stage| {
        let mut sessions = stage.list("sessions", &[])?;
        sessions.retain(|session| !session["metadata"]["finalizers"].is_null());
        Ok(Seen::of(sessions.is_empty(), names(&sessions)))
    })?;
    for name in WORKSPACES.iter().filter(|name| **name != "one-off") {
        stage.evidence(&format!("Workspace {name} can be launched again"), |stage| {
            workspace(stage, name, "Available")
        })?;
    }
    stage.evidence("the machine stands as it stood", |stage| {
        let pods = stage.list("pods", &["--selector=app=machine"])?;
        Ok(Seen::of(pods.iter().any(|pod| is_true(pod, "Ready")), names(&pods)))
    })?;
    stage.say.line("What was: ended sessions stay as long as the policy's `history.keepFor` says.");
    stage.table(&["get", "sessions", "-n", NAMESPACE])
}

/// Waits until a session can be used.
fn usable(stage: &mut Stage<'_>, name: &str) -> Result<Value> {
    stage.until(name, Some("is Active"), |s| phase(s) == "Active" && is_true(s, "Ready"))
}

/// Waits for a session's end of this kind.
fn ended(stage: &mut Stage<'_>, name: &str, how: &str, why: &str) -> Result<Value> {
    stage.until(name, Some(&format!("is {how}: {why}")), |s| {
        let over = !text(s, "/status/endedAt").is_empty() && is_true(s, "Ended");
        over && phase(s) == how && text(s, "/status/reason") == why
    })
}

/// That a session's instance is the one pod that the status names.
fn instance(stage: &mut Stage<'_>, session: &Value) -> Result<()> {
    let claim = format!("{} has one pod, the one that its status names", text(session, "/metadata/name"));
    stage.evidence(&claim, |stage| {
        let pods = stage.pods_of(session)?;
        let named = &session["status"]["instance"];
        let same = |pod: &Value| {
            let owner = &pod["metadata"]["ownerReferences"][0]["uid"];
            pod["metadata"]["name"] == named["pod"]
                && pod["metadata"]["uid"] == named["uid"]
                && *owner == session["metadata"]["uid"]
                && is_true(pod, "Ready")
        };
        Ok(Seen::of(pods.len() == 1 && pods.iter().all(same), format!("status {named}, pods {}", names(&pods))))
    })
}

/// That a desktop is drawn, as a viewer sees it.
fn draws(stage: &mut Stage<'_>, session: &Value) -> Result<()> {
    let pod = text(session, "/status/instance/pod");
    let port = Forward::to(stage.layout, NAMESPACE, pod, 5900)?;
    let password = stage.credential(session, "vnc-password")?;
    let mut shown = String::new();
    stage.holds("the desktop speaks RFB, takes its Workspace's password, and is drawn", |_| {
        let screen = match port.connect().and_then(|mut server| rfb::look(&mut server, &password)) {
            Ok(screen) => screen,
            Err(error) => return Ok(Seen::Instead(format!("{error:#}"))),
        };
        shown = format!("{} x {}, {} colours: {}", screen.size.0, screen.size.1, screen.colours, screen.name);
        Ok(Seen::of(screen.colours >= DRAWN, &shown))
    })?;
    stage.say.line(&format!("  {shown}"));
    Ok(())
}

/// That JupyterLab answers where its session says.
fn answers(stage: &mut Stage<'_>, session: &Value) -> Result<()> {
    let pod = text(session, "/status/instance/pod");
    let port = Forward::to(stage.layout, NAMESPACE, pod, 8888)?;
    let token = stage.credential(session, "proxy-token")?;
    stage.evidence("the session's url leads to the application", |_| {
        let url = text(session, "/status/url");
        let wanted = format!("http://{}:8888/lab", text(session, "/status/instance/ip"));
        Ok(Seen::of(url == wanted, url))
    })?;
    stage.evidence("JupyterLab refuses who does not show its Workspace's token", |_| {
        Ok(match port.get("/api/status") {
            Ok((status, _)) => Seen::of(status == 403, format!("status {status}")),
            Err(error) => Seen::Instead(format!("{error:#}")),
        })
    })?;
    stage.holds("JupyterLab answers HTTP on /lab to who does", |_| {
        Ok(match port.get_as_gateway("/lab", &token) {
            Ok((200, page)) if page.contains("JupyterLab") => Seen::True,
            Ok((status, page)) => Seen::Instead(format!("status {status}: {page:.300}")),
            Err(error) => Seen::Instead(format!("{error:#}")),
        })
    })
}

fn workspace(stage: &Stage<'_>, name: &str, wanted: &str) -> Result<Seen> {
    let found = stage.list("workspaces", &[&format!("--field-selector=metadata.name={name}")])?;
    let phase = found.first().map_or("no such Workspace", |found| text(found, "/status/phase"));
    Ok(Seen::of(phase == wanted, phase))
}

fn phase(object: &Value) -> &str {
    text(object, "/status/phase")
}
