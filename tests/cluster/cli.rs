//! `kubectl berth` on a real cluster: the built program is run as a script runs it, without a terminal, and judged by
//! what it prints, where, and how it exits.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use berth::api::session::Phase;
use berth::api::workspace::WorkspacePhase;
use berth::api::{Reason, Session};
use kube::ResourceExt;
use kube::config::Kubeconfig;
use serde_json::{Value, json};

use crate::harness::api::{Person, gateway};
use crate::harness::{Scene, status};

/// The program under test.
const BERTH: &str = env!("CARGO_BIN_EXE_berth");

/// What a run of the program gave.
#[derive(Debug)]
struct Ran {
    exit: Option<i32>,
    out: String,
    err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { exit: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
    }
}

impl Ran {
    /// Asserts the exit code, and shows everything where it is another.
    #[track_caller]
    fn exits(self, code: i32) -> Self {
        assert_eq!(self.exit, Some(code), "{self:#?}");
        self
    }

    #[track_caller]
    fn says(self, words: &str) -> Self {
        assert!(self.out.contains(words), "not on standard output: {words}: {self:#?}");
        self
    }

    #[track_caller]
    fn tells(self, words: &str) -> Self {
        assert!(self.err.contains(words), "not on standard error: {words}: {self:#?}");
        self
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// Runs `kubectl berth` with these words in the scene's namespace.
async fn berth(scene: &Scene, words: &str) -> Ran {
    let mut command = Command::new(BERTH);
    command.arg("kubectl").args(words.split_whitespace()).args(["--namespace", &scene.namespace]);
    run(command).await
}

/// Runs it without a terminal. The program bounds its own waiting.
async fn run(mut command: Command) -> Ran {
    let ran = tokio::task::spawn_blocking(move || command.stdin(Stdio::null()).output());
    ran.await.unwrap().unwrap().into()
}

#[tokio::test]
async fn what_is_live_is_listed_in_every_form() {
    let scene = Scene::new("cli-list").await;
    scene.workspace("box", json!({ "maxSessions": 3 })).await;
    berth(&scene, "list").await.exits(0).tells("no live sessions");
    scene.session("mine", "box", json!({})).await;
    scene.session("over", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    scene.phase("over", Phase::Active).await;
    scene.disconnect("over").await;
    scene.ended("over", Phase::Disconnected, Reason::UserDisconnected).await;

    let table = berth(&scene, "list").await.exits(0);
    let lines: Vec<Vec<&str>> = table.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NAME", "USER", "WORKSPACE", "PHASE", "SINCE", "UNTIL", "MESSAGE"]);
    assert_eq!(lines[1][..4], ["mine", "ana", "box", "Active"]);
    assert_eq!((lines.len(), lines[1].last()), (2, Some(&"(IdleTimeout)")), "{table:?}");
    let pod = status(&scene.get::<Session>("mine").await).instance.unwrap().pod;
    berth(&scene, "list -o wide --no-headers").await.exits(0).says(&pod);
    assert_eq!(berth(&scene, "list -o name").await.exits(0).out, "session.berth.dev/mine\n");
    let whole = berth(&scene, "list -o json").await.exits(0).json();
    assert_eq!((&whole["kind"], &whole["items"][0]["kind"]), (&json!("List"), &json!("Session")));
    assert_eq!(whole["items"][0]["metadata"]["name"], "mine");
    berth(&scene, "list -o yaml").await.exits(0).says("kind: List").says("name: mine");
    berth(&scene, "list --all").await.exits(0).says("over").says("(UserDisconnected)");
    // The Workspace's own count follows, within a second.
    scene
        .eventually("one slot of three is taken", || async {
            berth(&scene, "list --workspaces").await.exits(0).out.contains("1/3").then_some(())
        })
        .await;
    assert_eq!(berth(&scene, "list -l team=none -o name").await.exits(0).out, "");
    let everywhere = berth(&scene, "list -A --no-headers").await.exits(0);
    let mine = |line: &str| line.split_whitespace().take(2).eq([scene.namespace.as_str(), "mine"]);
    assert!(everywhere.out.lines().any(mine), "{everywhere:?}");
    berth(&scene, "list --context nowhere").await.exits(3).tells("contexts there are:");
}

#[tokio::test]
async fn a_launch_waits_and_says_how_to_reach_the_session() {
    let scene = Scene::new("cli-launch").await;
    scene.workspace("box", json!({ "access": { "path": "/lab" } })).await;
    let launched = berth(&scene, "launch box --idle 15m --timeout 1m").await.exits(0);
    let live: Vec<Session> = scene.list().await;
    let (name, session) = (live[0].name_any(), status(&live[0]));
    assert!(name.starts_with("box-"), "{name}");
    let caller = berth(&scene, "list -o json").await.json()["items"][0]["spec"].clone();
    assert_eq!(caller["idle"]["disconnectAfter"], "15m");
    assert_ne!(caller["user"]["id"], "", "whose it is was asked of the API server");
    let launched = launched.tells(&format!("session.berth.dev/{name} created")).tells("Starting: ").tells("Active");
    let each_once: Vec<&str> = launched.err.lines().filter(|line| line.starts_with("Starting: the instance")).collect();
    assert!(each_once.len() <= 1, "{launched:?}");
    assert!(!launched.err.contains('\r') && !launched.err.contains('\x1b'), "no line moves without a terminal");
    let pod = session.instance.unwrap().pod;
    launched
        .says(&format!("session.berth.dev/{name} can be used"))
        .says(&session.url.unwrap())
        .says(&format!("kubectl port-forward --namespace {} pod/{pod} 8080:8080", scene.namespace))
        .says("http://localhost:8080/lab");
    // The one slot is taken.
    let full = berth(&scene, "launch box --when-full=Fail --user ben").await.exits(6);
    full.tells("Failed (LimitExceeded)").tells("kubectl berth history");
    berth(&scene, "launch box --name queued --timeout 3s")
        .await
        .exits(5)
        .tells("Pending")
        .tells("kubectl berth end queued");
    berth(&scene, "launch box --name queued --no-wait").await.exits(4).tells("already exists");
}

#[tokio::test]
async fn a_launch_that_cannot_be_says_why() {
    let scene = Scene::new("cli-refused").await;
    berth(&scene, "launch box").await.exits(3).tells("there are no workspaces");
    scene.workspace("shell", json!({})).await;
    berth(&scene, "launch box").await.exits(3).tells("no workspace box").tells("workspaces there: shell");
    berth(&scene, "launch shell --idle 5").await.exits(2).tells("30m");
    berth(&scene, "launch").await.exits(2).tells("WORKSPACE");
    berth(&scene, "launch shell --name Not_A_Name").await.exits(4).tells("refused:");
    berth(&scene, "launch shell --dry-run=server").await.exits(0).says("(server dry run)");
    assert!(scene.list::<Session>().await.is_empty(), "nothing was created");
    let created = berth(&scene, "launch shell --no-wait -o name").await.exits(0);
    let session = created.out.trim().strip_prefix("session.berth.dev/").unwrap();
    scene.phase(session, Phase::Active).await;
}

#[tokio::test]
async fn sessions_are_ended_and_told_of_as_history() {
    let scene = Scene::new("cli-end").await;
    scene.workspace("box", json!({ "maxSessions": 5 })).await;
    for name in ["one", "two", "three"] {
        scene.session(name, "box", json!({})).await;
        scene.phase(name, Phase::Active).await;
    }
    berth(&scene, "end one").await.exits(0).says("session.berth.dev/one ended: Disconnected (UserDisconnected)");
    berth(&scene, "end one").await.exits(0).says("has ended already");
    let mixed = berth(&scene, "end two gone --terminate").await.exits(3);
    mixed.says("session.berth.dev/two ended: Terminated (AdministratorEnded)").tells("no session gone").tells("three");
    berth(&scene, "end three --no-wait -o name").await.exits(0).says("session.berth.dev/three");
    scene.ended("three", Phase::Disconnected, Reason::UserDisconnected).await;

    let table = berth(&scene, "history --no-headers").await.exits(0);
    assert_eq!(table.out.lines().count(), 3, "{table:?}");
    let whole = berth(&scene, "history -o json").await.json();
    let ends: Vec<&str> =
        whole["items"].as_array().unwrap().iter().filter_map(|it| it["status"]["endedAt"].as_str()).collect();
    assert!(ends.len() == 3 && ends.is_sorted_by(|one, next| one >= next), "the latest first: {ends:?}");
    table.says("AdministratorEnded").says("UserDisconnected");
    berth(&scene, "history two").await.exits(0).says("Reason:       AdministratorEnded").says("User:         ana");
    assert_eq!(berth(&scene, "history two -o json").await.json()["status"]["phase"], "Terminated");
    assert_eq!(berth(&scene, "history --user ben -o name").await.exits(0).out, "");
    scene.session("live", "box", json!({})).await;
    berth(&scene, "history live").await.exits(3).tells("has not ended");
}

#[tokio::test]
async fn many_are_ended_only_when_that_was_confirmed() {
    let scene = Scene::new("cli-all").await;
    scene.workspace("box", json!({ "maxSessions": 5 })).await;
    scene.workspace("other", json!({})).await;
    for (name, workspace) in [("one", "box"), ("two", "box"), ("three", "other")] {
        scene.session(name, workspace, json!({})).await;
        scene.phase(name, Phase::Active).await;
    }
    berth(&scene, "end-all").await.exits(2).tells("no terminal to ask on").tells("--yes");
    let shown = berth(&scene, "end-all --dry-run --workspace box -o name").await.exits(0);
    assert_eq!(shown.out, "session.berth.dev/one\nsession.berth.dev/two\n");
    shown.tells(&format!("would end 2 live sessions in namespace {} on workspace box", scene.namespace));
    berth(&scene, "end-all --older-than 1h --yes").await.exits(0).tells("0 live sessions").tells("nothing to end");
    berth(&scene, "end-all --user ben --yes").await.exits(0).tells("nothing to end");
    assert_eq!(berth(&scene, "list -o name").await.out.lines().count(), 3, "none was ended");

    let ended = berth(&scene, "end-all --workspace box --older-than 1s --terminate --yes").await.exits(0);
    let ended = ended.tells("ending 2 live sessions");
    ended.says("session.berth.dev/one ended: Terminated").says("session.berth.dev/two ended: Terminated");
    assert_eq!(berth(&scene, "list -o name").await.out, "session.berth.dev/three\n");
}

#[tokio::test]
async fn a_keepalive_is_said_of_live_sessions_alone() {
    let scene = Scene::new("cli-keep").await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    berth(&scene, "keepalive mine").await.exits(0).says("session.berth.dev/mine is kept alive");
    assert!(scene.get::<Session>("mine").await.spec.keep_alive_at.is_some());
    berth(&scene, "keepalive mine").await.exits(0);
    scene.disconnect("mine").await;
    scene.ended("mine", Phase::Disconnected, Reason::UserDisconnected).await;
    berth(&scene, "keepalive mine").await.exits(4).tells("has ended").tells("kubectl berth launch box");
    berth(&scene, "keepalive gone").await.exits(3).tells("no session gone");
}

#[tokio::test]
async fn the_doctor_finds_what_cannot_be_launched() {
    let scene = Scene::new("cli-doctor").await;
    scene.workspace("box", json!({})).await;
    let verdicts = |ran: &Ran| -> Vec<(String, String)> {
        let checks = ran.json()["checks"].as_array().unwrap().clone();
        let text = |check: &Value, key: &str| check[key].as_str().unwrap_or_default().to_owned();
        checks.iter().map(|check| (text(check, "name"), text(check, "verdict"))).collect()
    };
    let well = berth(&scene, "doctor -o json").await.exits(0);
    let found = verdicts(&well);
    let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        ["api-server", "clock", "definitions", "operator", "lease", "permissions", "storage", "workspaces", "sessions"]
    );
    assert!(found.iter().all(|(_, verdict)| verdict == "ok"), "{well:?}");

    let privileged = json!({ "template": { "spec": { "hostNetwork": true } } });
    scene.workspace("broken", privileged).await;
    scene.workspace_phase("broken", WorkspacePhase::Unavailable).await;
    let ill = berth(&scene, "doctor").await.exits(1);
    ill.says("failed").says("broken: ").says("mend: kubectl describe workspace broken");
    // What somebody's Workspace says is not about the installation.
    berth(&scene, "doctor --installation").await.exits(0).says("5 of 5 checks are ok");
}

#[tokio::test]
async fn a_watch_shows_each_change_until_it_is_interrupted() {
    let scene = Scene::new("cli-watch").await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    scene.phase("mine", Phase::Active).await;
    let mut command = Command::new(BERTH);
    command.args(["kubectl", "list", "--watch", "--namespace", &scene.namespace]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
    let mut next = async || {
        let line = tokio::time::timeout(Duration::from_secs(60), receiver.recv()).await;
        line.unwrap_or_else(|_| panic!("the watch shows nothing")).unwrap()
    };
    assert!(next().await.starts_with("NAME"));
    assert!(next().await.contains("Active"));
    scene.disconnect("mine").await;
    let mut changes = Vec::new();
    while !changes.last().is_some_and(|line: &String| line.contains("(UserDisconnected)")) {
        changes.push(next().await);
    }
    assert!(changes.len() <= 2, "the wish to end, and the end: {changes:?}");
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

#[tokio::test]
async fn who_may_not_is_told_which_verb_on_which_resource() {
    let scene = Scene::new("cli-rights").await;
    scene.workspace("box", json!({})).await;
    let folder = std::env::temp_dir().join(&scene.namespace);
    std::fs::create_dir(&folder).unwrap();
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).unwrap();
    let file = folder.join("kubeconfig");
    let mut kubeconfig = Kubeconfig::from_env().unwrap().unwrap();
    for user in &mut kubeconfig.auth_infos {
        user.auth_info.get_or_insert_default().impersonate = Some("nobody".to_owned());
    }
    std::fs::write(&file, serde_json::to_vec(&kubeconfig).unwrap()).unwrap();
    let nobody = async |words: &str| berth(&scene, &format!("{words} --kubeconfig {}", file.display())).await;
    let place = format!("in namespace {}", scene.namespace);
    nobody("list").await.exits(4).tells(&format!("you may not list sessions.berth.dev {place}")).tells("ask");
    nobody("launch box").await.exits(4).tells(&format!("you may not create sessions.berth.dev {place}"));
    nobody("end mine").await.exits(4).tells("you may not get sessions.berth.dev mine");
    let ill = nobody("doctor").await.exits(1);
    ill.says("failed   permissions").says("warning  storage").says("is served; you may not read how it is defined");
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn kubectl_completes_names_in_the_cluster() {
    let scene = Scene::new("cli-complete").await;
    scene.workspace("box", json!({})).await;
    scene.session("mine", "box", json!({})).await;
    // The program's name says what it is asked for.
    let link = std::env::temp_dir().join(&scene.namespace).join("kubectl_complete-berth");
    std::fs::create_dir_all(link.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(BERTH, &link).unwrap();
    let complete = |words: &'static [&'static str]| ask(link.clone(), scene.namespace.clone(), words);
    assert_eq!(complete(&["launch", ""]).await.exits(0).out, "box\n:4\n");
    assert_eq!(complete(&["end", "mi"]).await.exits(0).out, "mine\n:4\n");
    assert_eq!(complete(&["end", "mine", ""]).await.exits(0).out, ":4\n", "it stands there already");
    let unreachable = complete(&["--kubeconfig", "/nowhere", "end", ""]).await.exits(0);
    assert_eq!((unreachable.out.as_str(), unreachable.err.as_str()), (":4\n", ""));
    std::fs::remove_dir_all(link.parent().unwrap()).unwrap();
}

/// Asks for completions in this namespace.
async fn ask(program: PathBuf, namespace: String, words: &[&str]) -> Ran {
    let mut command = Command::new(program);
    command.args(["-n", &namespace]).args(words);
    run(command).await
}

#[tokio::test]
async fn with_a_gateway_ones_own_sessions_the_past_and_the_audit_are_told() {
    let scene = Scene::new("cli-gateway").await;
    scene.workspace("box", json!({ "maxSessions": 3 })).await;
    let ana = Person::new(&scene, "ana", &["berth-user"]).await;
    let manager = Person::new(&scene, "manager", &["admin"]).await;
    ana.sees(&scene, "box").await;
    let (ended, live) = (ana.launch("box").await, ana.launch("box").await);
    let name = async |id: &str| ana.session(id).await["name"].as_str().unwrap().to_owned();
    let (ended_name, live_name) = (name(&ended).await, name(&live).await);
    ana.post(&format!("/api/sessions/{ended}/disconnect"), json!({})).await;
    scene.let_go(&ended_name).await;
    scene.delete::<Session>(&ended_name).await;
    scene.gone::<Session>(&ended_name).await;
    let gateway = gateway().await;
    let asks = async |who: &Person, words: &str| {
        let mut command = Command::new(BERTH);
        command.arg("kubectl").args(words.split_whitespace()).args(["--namespace", &scene.namespace]);
        command.env("BERTH_GATEWAY", &gateway).env("BERTH_TOKEN", &who.token);
        run(command).await
    };
    let mine = asks(&ana, "list --mine").await.exits(0).says(&live_name).says("box");
    assert!(!mine.out.contains(&ended_name), "{mine:?}");
    assert_eq!(asks(&ana, "list --mine -o json").await.json()["items"][0]["id"], live);
    assert_eq!(asks(&manager, "list --mine -o name").await.exits(0).out, "", "none of them is theirs");

    // Its resource is gone; the gateway keeps it, for its user and for who may see everybody's.
    asks(&ana, "history").await.exits(0).says(&ended_name).says("UserDisconnected").tells("your own sessions");
    asks(&manager, "history").await.exits(0).says(&ended_name);
    asks(&ana, &format!("history {ended_name}")).await.exits(0).says("Reason:       UserDisconnected");
    asks(&ana, "history nothing").await.exits(3).tells("no ended session nothing");
    berth(&scene, &format!("history {ended_name}")).await.exits(3);

    let audit = asks(&manager, "audit").await.exits(0).says("launch_workspace").says("session_created");
    assert!(audit.out.contains(&ana.username), "{audit:?}");
    let only = asks(&manager, "audit --action disconnect_session -o json --limit 1").await.json();
    assert_eq!(only["items"].as_array().unwrap().len(), 1);
    assert_eq!(
        (&only["items"][0]["target_name"], &only["items"][0]["actor"]),
        (&json!(ended_name), &json!(ana.username))
    );
    asks(&ana, "audit").await.exits(3).tells("Organization not found");
    asks(&manager, "audit --since yesterday").await.exits(2).tells("since: write a time");

    berth(&scene, "audit").await.exits(2).tells("BERTH_GATEWAY");
    berth(&scene, "list --mine --gateway http://berth.example.org").await.exits(2).tells("in the clear");
    let stranger = Person { token: "nothing".to_owned(), ..ana.clone() };
    asks(&stranger, "list --mine").await.exits(4).tells("does not know you");
}
