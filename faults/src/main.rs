//! Fault plans: the operator, as a process of the built binary, on a real API server, with a proxy between the two that
//! follows a plan. Owns the command line, the runs side by side, and the report; a plan's course is `play`'s.

mod fate;
mod matrix;
mod observer;
mod operator;
mod oracle;
mod plan;
mod play;
mod proxy;
mod report;
mod stage;
mod workload;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use berth_simulation::apiserver::kinds::Kinds;
use clap::Parser;
use futures::StreamExt;
use http::Method;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use matrix::Shape;
use observer::Observer;
use oracle::Picture;
use plan::{Plan, Suite, Workload};
use play::{Verdict, World, play};

/// Fault plans against the operator on a real API server; `cargo xtask faults` brings up what it takes.
#[derive(Parser)]
struct Cli {
    /// The kubeconfig of the control plane's administrator.
    #[arg(long)]
    kubeconfig: PathBuf,
    /// The certificate that the proxies show, valid for 127.0.0.1 and of that kubeconfig's authority.
    #[arg(long)]
    certificate: PathBuf,
    /// Its key.
    #[arg(long)]
    key: PathBuf,
    /// The operator's binary.
    #[arg(long)]
    operator: PathBuf,
    /// The folder for what failing plans leave.
    #[arg(long)]
    logs: PathBuf,
    /// Run every plan.
    #[arg(long)]
    all: bool,
    /// How many plans to run.
    #[arg(long, default_value_t = 60)]
    plans: usize,
    /// Chooses them.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Only plans of this suite.
    #[arg(long)]
    suite: Option<String>,
    /// Run this plan alone, and print its requests.
    #[arg(long)]
    plan: Vec<Plan>,
    /// Print the plans and stop.
    #[arg(long)]
    list: bool,
    /// How many plans run side by side.
    #[arg(long, default_value_t = 8)]
    jobs: usize,
}

/// For how long no namespace may have gone before those that are left count as held.
const HELD: Duration = Duration::from_secs(120);

/// What each workload comes to, and asks for, without faults.
type References = BTreeMap<Workload, (Picture, Shape)>;

#[tokio::main]
async fn main() -> ExitCode {
    match run(&Cli::parse()).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what was asked for; whether all of it held.
async fn run(cli: &Cli) -> Result<bool> {
    if let Some(suite) = &cli.suite
        && Suite::ALL.iter().all(|known| known.name() != suite)
    {
        bail!("there is no suite {suite}: {}", Suite::ALL.map(Suite::name).join(", "));
    }
    let world = world(cli).await?;
    let needed: BTreeSet<Workload> = match cli.plan.as_slice() {
        [] => Workload::ALL.into(),
        plans => plans.iter().map(|plan| plan.workload).collect(),
    };
    let references = references(&world, cli.jobs, &needed).await?;
    let shapes = references.iter().map(|(workload, (_, shape))| (*workload, shape.clone())).collect();
    let mut plans = matrix::all(&shapes);
    plans.retain(|plan| cli.suite.as_ref().is_none_or(|suite| plan.action.suite().name() == suite));
    if cli.list {
        plans.iter().for_each(|plan| println!("{plan}"));
        return Ok(true);
    }
    if !cli.plan.is_empty() {
        plans.clone_from(&cli.plan);
    } else {
        let count = if cli.all { usize::MAX } else { cli.plans };
        plans = matrix::choose(&plans, count, cli.seed);
    }
    let begun = Instant::now();
    let verdicts = side_by_side(&world, cli.jobs, plans, &references).await?;
    let gone = namespaces_go(&world).await;
    if !cli.plan.is_empty() {
        verdicts.iter().for_each(|verdict| print!("{}", verdict.log));
    }
    report::print(&verdicts, begun.elapsed());
    if let Err(error) = &gone {
        println!("{error:#}");
    }
    Ok(gone.is_ok() && verdicts.iter().all(|verdict| verdict.broken.is_empty()))
}

async fn world(cli: &Cli) -> Result<World> {
    let text = std::fs::read_to_string(&cli.kubeconfig).context("cannot read the kubeconfig")?;
    let mut kubeconfig: Value = serde_saphyr::from_str(&text).context("the kubeconfig is none")?;
    // Operators know the proxy alone, which asks nobody who they are.
    kubeconfig["users"][0]["user"] = json!({});
    let read = Kubeconfig::read_from(&cli.kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    // What an operator asks arrives as often as it asks, and no silence of a watch is an end.
    config.default_retry = false;
    config.read_timeout = None;
    let client = Client::try_from(config)?;
    install(&client).await?;
    sweep(&client).await?;
    Ok(World {
        observer: Observer::start(&client).await.context("the control plane is not as it should be")?,
        client,
        kinds: Arc::new(Kinds::default()),
        tls: tls(&cli.certificate, &cli.key)?,
        kubeconfig,
        operator: cli.operator.clone(),
        logs: cli.logs.clone(),
        run: format!("run-{}", std::process::id()),
    })
}

fn tls(certificate: &Path, key: &Path) -> Result<TlsAcceptor> {
    let chain: Vec<_> =
        CertificateDer::pem_file_iter(certificate).context("no certificate")?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(key).context("no key")?;
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Installs the kinds, as this repository has them.
async fn install(client: &Client) -> Result<()> {
    for (_, definition) in berth::install::crds() {
        let name = definition.metadata.name.clone().unwrap_or_default();
        let path =
            format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}?fieldManager=faults&force=true");
        let request = http::Request::patch(path)
            .header("content-type", "application/apply-patch+yaml")
            .body(serde_json::to_vec(&definition)?)?;
        client.request::<Value>(request).await.with_context(|| format!("cannot install {name}"))?;
        // It is served a moment after it is installed.
        let (group, version) = (&definition.spec.group, &definition.spec.versions[0].name);
        let path = format!("/apis/{group}/{version}/{}?limit=1", definition.spec.names.plural);
        let until = Instant::now() + stage::PATIENCE;
        while stage::send(client, Method::GET, &path, &Value::Null).await.is_err() {
            if Instant::now() > until {
                bail!("{name} is not served");
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// Takes away what runs left that were killed: without an operator nobody lets go of their Sessions.
async fn sweep(client: &Client) -> Result<()> {
    let list = stage::send(client, Method::GET, "/api/v1/namespaces?labelSelector=berth-faults", &Value::Null).await?;
    let dead = |namespace: &&Value| {
        let run = namespace["metadata"]["labels"]["berth-faults"].as_str().unwrap_or_default();
        !Path::new("/proc").join(run.trim_start_matches("run-")).exists()
    };
    for namespace in list["items"].as_array().into_iter().flatten().filter(dead) {
        let name = namespace["metadata"]["name"].as_str().unwrap_or_default();
        stage::let_go(client, name).await?;
        let path = format!("/api/v1/namespaces/{name}");
        let _ = stage::send(client, Method::DELETE, &path, &Value::Null).await;
    }
    Ok(())
}

/// Plays workloads without faults.
async fn references(world: &World, jobs: usize, needed: &BTreeSet<Workload>) -> Result<References> {
    let plans = needed.iter().map(|workload| Plan::undisturbed(*workload)).collect();
    let mut references = References::new();
    for verdict in side_by_side(world, jobs, plans, &References::new()).await? {
        if !verdict.broken.is_empty() {
            bail!("{} fails without any fault: {}", verdict.plan, verdict.broken.join("\n  "));
        }
        references.insert(verdict.plan.workload, (verdict.picture, verdict.shape));
    }
    Ok(references)
}

async fn side_by_side(world: &World, jobs: usize, plans: Vec<Plan>, references: &References) -> Result<Vec<Verdict>> {
    let count = plans.len();
    let mut playing = futures::stream::iter(plans)
        .map(|plan| async move {
            let undisturbed = references.get(&plan.workload).map(|(picture, _)| picture);
            play(world, &plan, undisturbed).await.with_context(|| plan.to_string())
        })
        .buffer_unordered(jobs.max(1));
    let mut verdicts = Vec::new();
    while let Some(verdict) = playing.next().await {
        let verdict = verdict?;
        report::one(&verdict)?;
        verdicts.push(verdict);
        if verdicts.len().is_multiple_of(20) && verdicts.len() < count {
            eprintln!("{} of {count} plans", verdicts.len());
        }
    }
    Ok(verdicts)
}

/// Waits until the namespaces of this run are gone: nothing of Berth's may hold one.
async fn namespaces_go(world: &World) -> Result<()> {
    let path = format!("/api/v1/namespaces?labelSelector=berth-faults%3D{}", world.run);
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        let list = stage::send(&world.client, Method::GET, &path, &Value::Null).await?;
        let left: Vec<&Value> =
            list["items"].as_array().into_iter().flatten().map(|namespace| &namespace["metadata"]["name"]).collect();
        if left.is_empty() {
            return Ok(());
        }
        // Many go by and by; one that is held stays.
        if left.len() < fewest {
            (fewest, since) = (left.len(), Instant::now());
        } else if since.elapsed() > HELD {
            bail!("these namespaces do not go: {left:?}");
        }
        sleep(Duration::from_millis(500)).await;
    }
}
