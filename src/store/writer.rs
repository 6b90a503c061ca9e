//! The one task that writes. Whatever waits for it goes into one transaction, so that many callers share one wait for
//! the disk; each gets an answer of its own.

use tokio::sync::{mpsc, oneshot};

use super::audit::Record;
use super::audit::chain::{self, Checked};
use super::database::{Connection, Place, UNKNOWN, within};
use super::error::StoreError;
use super::history::{self, Keep};

/// How many callers may wait before the next has to wait for a place.
const QUEUE: usize = 1024;
/// How many of them one transaction takes.
const BATCH: usize = 256;

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

/// What somebody waits for.
enum Work {
    Append(Box<Checked>, Answer<Record>),
    Keep(Vec<Keep>, Answer<()>),
    Forget(i64, Answer<u64>),
    Close(Answer<()>),
}

/// What came of it.
enum Done {
    Appended(Box<Record>),
    Kept,
    Forgotten(u64),
}

impl Work {
    /// Tells whoever waits. Nobody may: who went away learns nothing, and what was done stays done.
    fn answer(self, done: Result<Done, StoreError>) {
        match (self, done) {
            (Self::Append(_, answer), Ok(Done::Appended(record))) => drop(answer.send(Ok(*record))),
            (Self::Keep(_, answer), Ok(Done::Kept)) => drop(answer.send(Ok(()))),
            (Self::Forget(_, answer), Ok(Done::Forgotten(count))) => drop(answer.send(Ok(count))),
            (Self::Append(_, answer), Err(error)) => drop(answer.send(Err(error))),
            (Self::Keep(_, answer), Err(error)) => drop(answer.send(Err(error))),
            (Self::Forget(_, answer), Err(error)) => drop(answer.send(Err(error))),
            // An answer of another kind is none: whoever waits is told that nobody answers.
            (_, _) => {}
        }
    }
}

/// The way to the task that writes.
#[derive(Clone, Debug)]
pub(super) struct Writer(mpsc::Sender<Work>);

impl Writer {
    /// Starts the task, with a connection that is open already.
    pub fn start(place: Place, connection: Connection) -> Self {
        let (sender, works) = mpsc::channel(QUEUE);
        tokio::spawn(Task { place, connection: Some(connection), works, closing: Vec::new() }.run());
        Self(sender)
    }

    /// Adds a record to the audit.
    pub async fn append(&self, draft: Checked) -> Result<Record, StoreError> {
        self.wait(|answer| Work::Append(Box::new(draft), answer)).await
    }

    /// Keeps sessions.
    pub async fn keep(&self, sessions: Vec<Keep>) -> Result<(), StoreError> {
        self.wait(|answer| Work::Keep(sessions, answer)).await
    }

    /// Forgets some of the sessions that ended before this time.
    pub async fn forget(&self, before: i64) -> Result<u64, StoreError> {
        self.wait(|answer| Work::Forget(before, answer)).await
    }

    /// Ends the task after what came before.
    pub async fn close(&self) {
        // Where nobody answers, it has ended already.
        let _ = self.wait(Work::Close).await;
    }

    async fn wait<T>(&self, work: impl FnOnce(Answer<T>) -> Work) -> Result<T, StoreError> {
        let closed = || StoreError::Unavailable("it was closed".to_owned());
        let (answer, done) = oneshot::channel();
        self.0.send(work(answer)).await.map_err(|_| closed())?;
        done.await.map_err(|_| closed())?
    }
}

/// The task, with the connection that nobody else has.
struct Task {
    place: Place,
    connection: Option<Connection>,
    works: mpsc::Receiver<Work>,
    /// Who waits for the end of the task.
    closing: Vec<Answer<()>>,
}

impl Task {
    async fn run(mut self) {
        let mut batch = Vec::with_capacity(BATCH);
        while self.works.recv_many(&mut batch, BATCH).await > 0 {
            self.write(&mut batch).await;
            if !self.closing.is_empty() {
                // What is in the queue is still written; nothing enters it any more.
                self.works.close();
            }
        }
        if let Some(connection) = self.connection.take() {
            connection.close().await;
        }
        self.closing.into_iter().for_each(|answer| drop(answer.send(Ok(()))));
    }

    /// Writes all of these and answers them.
    async fn write(&mut self, batch: &mut Vec<Work>) {
        self.set_aside(batch);
        match self.attempt(batch).await {
            Ok(done) => batch.drain(..).zip(done).for_each(|(work, done)| work.answer(Ok(done))),
            Err(error) if error.is_unavailable() => {
                // Those who came meanwhile would wait as long for the same answer.
                while let Ok(work) = self.works.try_recv() {
                    batch.push(work);
                }
                self.set_aside(batch);
                tracing::debug!(waiting = batch.len(), %error, "nothing could be written");
                batch.drain(..).for_each(|work| work.answer(Err(error.clone())));
            }
            // One of them cannot be written: the others are not to fail with it.
            Err(_) => {
                for work in batch.drain(..) {
                    let mut done = self.attempt(std::slice::from_ref(&work)).await;
                    match done.as_mut().map(Vec::pop) {
                        Ok(Some(one)) => work.answer(Ok(one)),
                        _ => work.answer(done.map(|_| Done::Kept)),
                    }
                }
            }
        }
    }

    /// Takes out those who wait for the end.
    fn set_aside(&mut self, batch: &mut Vec<Work>) {
        for work in std::mem::take(batch) {
            match work {
                Work::Close(answer) => self.closing.push(answer),
                other => batch.push(other),
            }
        }
    }

    /// Writes all of these in one transaction. Whatever fails, the connection goes with it: the next attempt has a
    /// new one, whose state is known.
    async fn attempt(&mut self, batch: &[Work]) -> Result<Vec<Done>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let connection = self.connection.take();
        let work = async {
            let mut connection = match connection {
                Some(connection) => connection,
                None => self.place.connect().await?,
            };
            let done = transaction(&mut connection, batch).await?;
            Ok((connection, done))
        };
        let (connection, done) = within(UNKNOWN, work).await.map_err(StoreError::at_work)?;
        self.connection = Some(connection);
        Ok(done)
    }
}

/// One transaction with all of this in it.
async fn transaction(connection: &mut Connection, batch: &[Work]) -> Result<Vec<Done>, StoreError> {
    connection.begin().await?;
    let drafts = batch.iter().filter_map(|work| match work {
        Work::Append(draft, _) => Some(draft.as_ref().clone()),
        _ => None,
    });
    let mut records = chain::append(connection, drafts).await?.into_iter();
    let mut done = Vec::with_capacity(batch.len());
    for work in batch {
        done.push(match work {
            Work::Append(..) => {
                let record = records.next().ok_or_else(|| StoreError::Corrupt("a record got lost".to_owned()))?;
                Done::Appended(Box::new(record))
            }
            Work::Keep(sessions, _) => {
                for session in sessions {
                    session.execute(connection).await?;
                }
                Done::Kept
            }
            Work::Forget(before, _) => Done::Forgotten(history::forget(connection, *before).await?),
            Work::Close(_) => Done::Kept,
        });
    }
    connection.commit().await?;
    Ok(done)
}
