//! `berth audit`: looks into the store by hand, beside a gateway that runs or without one. Owns what is printed and how it
//! ends; what a sound chain is, the store knows.

use std::fs::File;
use std::io::{BufReader, Write, stdin};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};

use crate::store::Store;
use crate::store::audit::Head;
use crate::store::audit::verify::{Verdict, verify_lines};

/// The exit code for a chain that is broken, apart from what could not be looked at, which is 1.
const BROKEN: u8 = 3;

/// What `berth audit` is told.
#[derive(Subcommand)]
pub enum Audit {
    /// Find every edit, gap, reorder and cut of the audit; exits with 3 where there is one.
    #[command(after_help = "Examples:
  berth audit verify --store sqlite:/var/lib/berth/berth.db
  berth audit verify --store postgres://berth@db/berth --head 1042:3f9a…
  berth audit verify --lines audit.jsonl

A chain that was cut at its end, or made anew as a whole, is found only with --head: the gateway logs its head, and
publishes it in the ConfigMap berth-audit-head.")]
    Verify(Verify),
    /// Print the whole audit as lines of JSON, the oldest record first.
    #[command(after_help = "Examples:
  berth audit export --store sqlite:/var/lib/berth/berth.db > audit.jsonl
  berth audit export --store postgres://berth@db/berth --output audit.jsonl")]
    Export(Export),
}

/// Where the store is.
#[derive(Args)]
struct At {
    /// Where history and audit are kept: sqlite:/path/to/berth.db, or postgres://user:password@host/database.
    #[arg(long, env = "BERTH_STORE", value_name = "URL", hide_env_values = true)]
    store: Option<String>,
}

impl At {
    async fn open(&self) -> anyhow::Result<Store> {
        let Some(url) = &self.store else { bail!("which store: name it by --store, or by BERTH_STORE") };
        // A gateway makes its file; somebody who looks for one has mistyped its name.
        let file = url.strip_prefix("sqlite:").map(|path| path.split('?').next().unwrap_or(path));
        if let Some(file) = file.filter(|file| !Path::new(file).exists()) {
            bail!("there is no file {file}");
        }
        Ok(Store::open(url).await?)
    }
}

/// What `berth audit verify` is told.
#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    at: At,
    /// Look at these exported lines instead of a store; `-` reads what is piped in.
    #[arg(long, value_name = "FILE", conflicts_with = "store")]
    lines: Option<PathBuf>,
    /// What was published of the chain's end, as SEQ:HASH: it must still lead there.
    #[arg(long, value_name = "SEQ:HASH", value_parser = head)]
    head: Option<Head>,
}

/// What `berth audit export` is told.
#[derive(Args)]
pub struct Export {
    #[command(flatten)]
    at: At,
    /// Write here instead of printing.
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn head(text: &str) -> Result<Head, String> {
    let parts = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash)));
    let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    match parts.filter(|(_, hash)| is_hash(hash)) {
        Some((seq, hash)) => Ok(Head { seq, hash: hash.to_ascii_lowercase() }),
        None => Err("write the record's number, a colon, and its 64 hexadecimal digits".to_owned()),
    }
}

/// Does what it is told.
///
/// # Errors
/// When the store or the file cannot be read.
pub async fn run(told: Audit) -> anyhow::Result<ExitCode> {
    match told {
        Audit::Verify(told) => verify(told).await,
        Audit::Export(told) => export(told).await,
    }
}

async fn verify(told: Verify) -> anyhow::Result<ExitCode> {
    let verdict = match &told.lines {
        Some(path) if path == Path::new("-") => verify_lines(stdin().lock(), Head::genesis(), told.head)?,
        Some(path) => {
            let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
            verify_lines(BufReader::new(file), Head::genesis(), told.head)?
        }
        None => told.at.open().await?.verify(told.head).await?,
    };
    let mut out = std::io::stdout().lock();
    match verdict {
        Verdict::Sound { records, head } => {
            let head = head.unwrap_or_else(Head::genesis);
            writeln!(out, "sound: {records} records, head {}:{}", head.seq, head.hash)?;
            Ok(ExitCode::SUCCESS)
        }
        Verdict::Broken { at, what } => {
            writeln!(out, "broken at record {at}: {what}")?;
            Ok(ExitCode::from(BROKEN))
        }
    }
}

async fn export(told: Export) -> anyhow::Result<ExitCode> {
    let store = told.at.open().await?;
    let head = match &told.output {
        Some(path) => {
            let mut file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
            let head = store.export_to(0, &mut file).await?;
            file.sync_all()?;
            head
        }
        None => store.export_to(0, &mut std::io::stdout()).await?,
    };
    store.close().await;
    let head = head.unwrap_or_else(Head::genesis);
    let _ = writeln!(std::io::stderr(), "exported: {} records, head {}:{}", head.seq, head.seq, head.hash);
    Ok(ExitCode::SUCCESS)
}
