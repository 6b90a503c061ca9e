//! How sessions and Workspaces are shown over the API: shared/api.md's fields and ours, made of what stands. Pure; nothing is
//! claimed that nobody has observed. What is not known is null, or `unknown` where the contract has that word.

mod session;
mod workspace;

pub use session::{CoarseStatus, LocationView, MfaView, SessionView, TunnelStatus, TunnelView, coarse, started};
pub use workspace::{WorkspaceStatusView, WorkspaceView};

use chrono::TimeDelta;

/// A length of time as people read it: `0m`, `32m`, `1h 05m`, `2d 4h`.
pub fn length(delta: TimeDelta) -> String {
    let minutes = delta.num_minutes().max(0);
    let (hours, days) = (minutes / 60, minutes / (24 * 60));
    match (days, hours) {
        (0, 0) => format!("{minutes}m"),
        (0, hours) => format!("{hours}h {:02}m", minutes % 60),
        (days, hours) => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_written_as_people_read_them() {
        for (seconds, text) in [
            (-5, "0m"),
            (0, "0m"),
            (59, "0m"),
            (60, "1m"),
            (32 * 60 + 59, "32m"),
            (3599, "59m"),
            (3600, "1h 00m"),
            (3900, "1h 05m"),
            (9000, "2h 30m"),
            (86_399, "23h 59m"),
            (86_400, "1d 0h"),
            (2 * 86_400 + 4 * 3600 + 1800, "2d 4h"),
        ] {
            assert_eq!(length(TimeDelta::seconds(seconds)), text, "{seconds} s");
        }
    }
}
