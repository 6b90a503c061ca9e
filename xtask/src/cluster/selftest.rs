//! `cargo xtask cluster selftest`: that `down` leaves nothing behind, also after `up` was killed at any point, and
//! that `up` repairs what a killed one left.
//!
//! It starts `up` and `down` as a person would, as processes of their own, and looks at the machine between them.

use super::layout::Layout;
use super::snapshot::Snapshot;
use super::wanted::Wanted;
use crate::cache::Cache;
use anyhow::{Context, Result, bail};
use std::fs::{self, File};
use std::io::Read;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Options of the self-test.
#[derive(clap::Args)]
pub struct Args {
    /// How many times `up` is killed
    #[arg(long, default_value_t = 10, value_name = "N")]
    kills: u32,
    /// Chooses the points; a failing run prints its own [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Take down a cluster that is up, instead of refusing
    #[arg(long)]
    replace: bool,
    /// Only the control plane and simulated nodes
    #[arg(long)]
    no_node: bool,
}

/// Runs the self-test; an error says what was left behind.
pub fn run(cache: &Cache, args: &Args) -> Result<()> {
    let test = Test { cache: cache.clone(), layout: Layout::new(cache)?, no_node: args.no_node };
    if Wanted::read(&test.layout)?.is_some() && !args.replace {
        bail!("a cluster is up: take it down first, or say --replace");
    }
    let seed = match args.seed {
        Some(seed) => seed,
        None => {
            let mut bytes = [0; 3];
            File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            bytes.iter().fold(0, |seed, byte| seed << 8 | u64::from(*byte))
        }
    };
    println!("selftest: seed {seed}, {} kills", args.kills);
    let mut random = Random(seed.wrapping_mul(2).wrapping_add(1));

    // Once up and down first: programs, packages and caches are there from then on.
    test.finish("up")?;
    test.finish("down")?;
    let before = test.look()?;

    let begun = Instant::now();
    test.finish("up")?;
    let usual = begun.elapsed();
    test.all_is_up()?;
    test.finish("down")?;
    let mut wrong = test.compare(&before, &format!("up ({:.1} s), then down", usual.as_secs_f32()))?;

    for round in 1..=args.kills {
        let after = usual.mul_f64(random.fraction());
        let repair = random.fraction() < 0.5;
        let kill_down = random.fraction() < 0.3;
        let mut story = format!("{round}: up killed after {:.2} s", after.as_secs_f32());
        test.kill("up", after)?;
        if repair {
            story.push_str(", up again");
            test.finish("up")?;
            test.all_is_up().with_context(|| story.clone())?;
        }
        if kill_down {
            let after = Duration::from_secs_f64(random.fraction());
            story.push_str(&format!(", down killed after {:.2} s", after.as_secs_f32()));
            test.kill("down", after)?;
        }
        story.push_str(", down");
        test.finish("down").with_context(|| story.clone())?;
        wrong += test.compare(&before, &story)?;
    }
    println!("{} passed, {wrong} failed", args.kills + 1 - wrong);
    if wrong > 0 {
        bail!("something was left behind; again with --seed {seed}");
    }
    Ok(())
}

struct Test {
    cache: Cache,
    layout: Layout,
    no_node: bool,
}

impl Test {
    fn start(&self, command: &str) -> Result<Child> {
        let log = self.cache.logs().join("selftest.log");
        fs::create_dir_all(self.cache.logs())?;
        let log = File::options().create(true).append(true).open(log)?;
        let mut child = Command::new(std::env::current_exe()?);
        child.args(["cluster", command]);
        if command == "up" {
            child.args(["--simulated", "3"]);
            if self.no_node {
                child.arg("--no-node");
            }
        }
        Ok(child.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).spawn()?)
    }

    fn finish(&self, command: &str) -> Result<()> {
        let status = self.start(command)?.wait()?;
        self.check(command, status)
    }

    fn check(&self, command: &str, status: ExitStatus) -> Result<()> {
        if status.success() {
            return Ok(());
        }
        let log = self.cache.logs().join("selftest.log");
        let text = fs::read_to_string(&log).unwrap_or_default();
        let tail: Vec<&str> = text.lines().rev().take(15).collect();
        let tail: Vec<&str> = tail.into_iter().rev().collect();
        bail!("`cluster {command}` failed; all of its output: {}\n  {}", log.display(), tail.join("\n  "))
    }

    /// Starts the command and kills it, and nothing but it, after this time.
    fn kill(&self, command: &str, after: Duration) -> Result<()> {
        let mut child = self.start(command)?;
        std::thread::sleep(after);
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    fn all_is_up(&self) -> Result<()> {
        self.check("status", self.start("status")?.wait()?)
    }

    fn look(&self) -> Result<Snapshot> {
        Snapshot::take(self.layout.state())
    }

    /// Says what is different from before, and counts 1 if anything is. The kernel may take a moment to clear up.
    fn compare(&self, before: &Snapshot, story: &str) -> Result<u32> {
        let mut differences = Vec::new();
        for _ in 0..20 {
            differences = before.differences(&self.look()?);
            if differences.is_empty() {
                println!("ok    {story}");
                return Ok(0);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        println!("WRONG {story}");
        for difference in &differences {
            println!("      {difference}");
        }
        Ok(1)
    }
}

/// Numbers that look random and repeat with their seed (xorshift).
struct Random(u64);

impl Random {
    fn fraction(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }
}
