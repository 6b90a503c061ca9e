//! `kubectl berth completion`: a script for a shell that completes `kubectl-berth` itself. For `kubectl berth` the
//! shell asks kubectl, and kubectl asks `complete`.

use clap::CommandFactory;
use clap_complete::Shell;

use super::Cli;
use super::exit::{Exit, Failure};
use super::output::print;

/// Print the completion of kubectl-berth for a shell
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  source <(kubectl berth completion bash)
  kubectl berth completion zsh > ~/.zfunc/_kubectl-berth
  kubectl berth completion fish > ~/.config/fish/completions/kubectl-berth.fish

This completes the program kubectl-berth. To complete `kubectl berth`, names in the cluster too, install this program
once more under the name kubectl_complete-berth: kubectl's own completion then asks it.")]
pub struct Completion {
    /// The shell.
    #[arg(value_name = "bash|zsh|fish")]
    shell: ShellName,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum ShellName {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    /// Prints the script.
    ///
    /// # Errors
    /// When it cannot be printed.
    pub fn run(self) -> Result<Exit, Failure> {
        print(&script(self.shell))?;
        Ok(Exit::Done)
    }
}

fn script(shell: ShellName) -> String {
    let shell = match shell {
        ShellName::Bash => Shell::Bash,
        ShellName::Zsh => Shell::Zsh,
        ShellName::Fish => Shell::Fish,
    };
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "kubectl-berth", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scripts_know_the_commands() {
        for shell in [ShellName::Bash, ShellName::Zsh, ShellName::Fish] {
            let script = script(shell);
            assert!(script.contains("kubectl-berth") && script.contains("end-all"), "{shell:?}");
        }
    }
}
