//! A watch for as long as its owner lives. Owns beginning it, beginning it again, and that what went while it was down is
//! told about like anything else that went.

use std::collections::HashSet;
use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use futures::TryStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watched};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What is told about an object.
pub enum Told<K> {
    /// It is there, and looks like this.
    Stands(K),
    /// The one of this name is no longer there.
    Gone(String),
}

/// The watch. It ends when this is dropped.
pub struct Follow(JoinHandle<()>);

impl Drop for Follow {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Follow {
    /// Watches from now on; what is there already was told when this returns.
    ///
    /// # Errors
    /// When the watch does not begin.
    pub async fn start<K>(api: Api<K>, mut tell: impl FnMut(Told<K>) + Send + 'static) -> Result<Self>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        let (listed, mut is_listed) = watch::channel(false);
        let task = tokio::spawn(async move {
            // Those that stand, and while a new list comes, those of the last one that it has not named yet.
            let (mut standing, mut before) = (HashSet::new(), HashSet::new());
            let mut events = std::pin::pin!(watched(api, watcher::Config::default()).default_backoff());
            loop {
                match events.try_next().await {
                    Ok(Some(Event::Init)) => before.extend(standing.drain()),
                    Ok(Some(Event::InitApply(object) | Event::Apply(object))) => {
                        before.remove(&object.name_any());
                        standing.insert(object.name_any());
                        tell(Told::Stands(object));
                    }
                    Ok(Some(Event::InitDone)) => {
                        before.drain().for_each(|name| tell(Told::Gone(name)));
                        listed.send_replace(true);
                    }
                    Ok(Some(Event::Delete(object))) => {
                        standing.remove(&object.name_any());
                        tell(Told::Gone(object.name_any()));
                    }
                    Ok(None) => return,
                    // The watch begins again by itself.
                    Err(_) => {}
                }
            }
        });
        let follow = Self(task);
        let listing = is_listed.wait_for(|listed| *listed);
        tokio::time::timeout(Duration::from_secs(30), listing).await.context("the watch does not begin")??;
        Ok(follow)
    }
}
