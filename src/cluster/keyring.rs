//! The key from which the credentials of instances are made: read from the operator's own namespace, or made there once. Owns
//! that Secret; what is made of the key is `plan::contract`'s.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ObjectMeta;
use tokio::sync::watch;

use super::Cluster;
use super::apply::workspace::make_key;
use super::error::{CallError, optional};
use super::watch::{everything, waiting_everywhere};
use crate::api::{MANAGED_BY, MANAGED_BY_LABEL};
use crate::plan::contract::Keys;

/// The Secret with the key. Who deletes it makes all credentials anew: they change with the operator's next start.
pub const SECRET: &str = "berth-instance-key";
/// Where in it the key is.
const FIELD: &str = "key";
/// The pause before it is read again, after that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the work waits at its beginning for the key.
const FIRST_LOOK: Duration = Duration::from_secs(2);

/// What is known of the key.
#[derive(Clone)]
pub struct Keyring {
    namespace: String,
    ssh_user_ca: Vec<String>,
    known: watch::Sender<Result<Keys, String>>,
}

impl Keyring {
    /// The keyring of an operator in this namespace, with the public keys of the authorities for SSH users.
    pub fn new(namespace: &str, ssh_user_ca: Vec<String>) -> Self {
        let known = watch::Sender::new(Err("it was not read yet".to_owned()));
        Self { namespace: namespace.to_owned(), ssh_user_ca, known }
    }

    /// The same, with other authorities.
    #[must_use]
    pub fn trusting(self, ssh_user_ca: Vec<String>) -> Self {
        Self { ssh_user_ca, ..self }
    }

    /// The keys.
    ///
    /// # Errors
    /// Why they are not known.
    pub fn keys(&self) -> Result<Keys, String> {
        self.known.borrow().clone()
    }

    /// Waits a moment for the key, so that those who wait already are not told to wait for it.
    pub async fn looked_at(&self) {
        let mut known = self.known.subscribe();
        let _ = tokio::time::timeout(FIRST_LOOK, known.wait_for(Result::is_ok)).await;
    }
}

/// Reads the key, or makes it, and is done then.
pub async fn run(cluster: Cluster) {
    let keyring = &cluster.keyring;
    loop {
        let read = match read(&cluster, keyring).await {
            Ok(bytes) => Keys::new(&bytes, keyring.ssh_user_ca.clone())
                .ok_or_else(|| format!("Secret {}/{SECRET} has no {FIELD} of 32 bytes: delete it", keyring.namespace)),
            Err(error) => Err(format!("Secret {}/{SECRET}: {}", keyring.namespace, error.words())),
        };
        let why = read.clone().err();
        let before = keyring.known.send_replace(read);
        let Some(why) = why else {
            everything(&cluster, &None);
            return std::future::pending().await;
        };
        if before.err().as_ref() != Some(&why) {
            tracing::warn!(why, "the key of instances is not known: who needs a credential of it waits");
            waiting_everywhere(&cluster);
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn read(cluster: &Cluster, keyring: &Keyring) -> Result<Vec<u8>, CallError> {
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), &keyring.namespace);
    let stands = match optional(api.get(SECRET)).await? {
        Some(stands) => stands,
        None => {
            let mut key = vec![0; 32];
            getrandom::fill(&mut key)
                .map_err(|error| CallError::NotOurs(format!("the host has no random bytes: {error}")))?;
            let made = Secret {
                metadata: ObjectMeta {
                    name: Some(SECRET.to_owned()),
                    labels: Some(BTreeMap::from([(MANAGED_BY_LABEL.to_owned(), MANAGED_BY.to_owned())])),
                    ..ObjectMeta::default()
                },
                data: Some(BTreeMap::from([(FIELD.to_owned(), ByteString(key))])),
                ..Secret::default()
            };
            make_key(cluster, &api, &made).await?
        }
    };
    Ok(stands.data.and_then(|mut data| data.remove(FIELD)).map(|bytes| bytes.0).unwrap_or_default())
}
