//! Names of what the operator makes. Each follows from uids alone, so that the same launch makes the same
//! object however often it is tried, and a session that is created anew under an old name makes another.

use crate::hex::hex;
use sha2::{Digest, Sha256};

/// The name of a session's pod: readable at its head, unique by the hash of the Session's uid. It is a DNS label,
/// since a pod's name becomes its host name.
pub fn pod(session: &str, session_uid: &str) -> String {
    format!("{}-{}", head(session, 52), hash(&[session_uid]))
}

/// The name of a pod of a pool: it follows from the Workspace's uid, the number of its place, and the uid of the pod whose place
/// it takes, if there was one.
pub fn warm_pod(workspace: &str, workspace_uid: &str, slot: u32, replaces: &str) -> String {
    format!("{}-warm-{}", head(workspace, 47), hash(&[workspace_uid, &slot.to_string(), replaces]))
}

/// The name of a retained claim: it follows from the Workspace's uid, the volume and the user.
pub fn retained_claim(workspace: &str, workspace_uid: &str, volume: &str, user: &str) -> String {
    format!("{}-{volume}-{}", head(workspace, 40), hash(&[workspace_uid, volume, user]))
}

/// The name of what a Workspace has beside its instances, one of each kind: its NetworkPolicy, its PodDisruptionBudget.
pub fn of_workspace(workspace: &str, workspace_uid: &str) -> String {
    format!("berth-{}-{}", head(workspace, 46), hash(&[workspace_uid]))
}

/// The first `length` characters of an object's name as part of a DNS label.
fn head(name: &str, length: usize) -> String {
    let label: String = name.chars().take(length).map(|c| if c == '.' { '-' } else { c }).collect();
    label.trim_end_matches('-').to_owned()
}

/// Ten hexadecimal digits over `parts`, each closed by a byte that no part contains.
fn hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    hex(&digest.finalize()[..5])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_session_created_anew_under_its_name_gets_another_pod() {
        assert_ne!(pod("mine", "uid-1"), pod("mine", "uid-2"));
        assert_eq!(pod("mine", "uid-1"), pod("mine", "uid-1"));
    }

    #[test]
    fn two_users_never_share_a_retained_claim() {
        assert_ne!(retained_claim("desk", "w", "home", "ana"), retained_claim("desk", "w", "home", "bob"));
        assert_ne!(retained_claim("desk", "w", "ab", "c"), retained_claim("desk", "w", "a", "bc"));
    }

    proptest! {
        #[test]
        fn a_pod_name_is_a_dns_label_whatever_the_session_is_called(name in "[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?", uid in "[0-9a-f-]{36}") {
            let pod = pod(&name, &uid);
            prop_assert!(pod.len() <= 63);
            prop_assert!(pod.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'));
            prop_assert!(!pod.starts_with('-') && !pod.ends_with('-'));
        }
    }
}
