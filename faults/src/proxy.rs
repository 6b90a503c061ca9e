//! The way between one operator and the API server: ends its TLS, forwards its requests, and does to each what the plan's
//! fate says. Owns the wire and the record of what was asked; decides nothing.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use berth_simulation::apiserver::call::{Call, Verb};
use berth_simulation::apiserver::kinds::Kinds;
use berth_simulation::apiserver::log::{Entry, Log};
use berth_simulation::apiserver::refusal::Refusal;
use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream};
use futures::{FutureExt, StreamExt, TryStreamExt};
use http::{Request, Response, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::fate::{After, Before, Fate, LATE, Passage, UNTIL_RESTART};
use crate::observer::Observer;
use crate::operator::Place;

type Answer = Response<UnsyncBoxBody<Bytes, Cut>>;

/// Why a connection ends without an answer, or within one.
#[derive(Debug)]
struct Cut(anyhow::Error);

impl std::fmt::Display for Cut {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{:#}", self.0)
    }
}

impl std::error::Error for Cut {}

/// What was asked in a plan, by all of its operators.
pub struct Record {
    begun: Instant,
    entries: Mutex<Vec<Entry>>,
    numbers: std::sync::atomic::AtomicU64,
    former: Mutex<Option<(String, Duration)>>,
}

impl Record {
    /// Nothing was asked yet.
    pub fn new() -> Self {
        Self {
            begun: Instant::now(),
            entries: Mutex::default(),
            numbers: std::sync::atomic::AtomicU64::new(0),
            former: Mutex::default(),
        }
    }

    /// All that was asked and answered so far, in the order in which it came.
    pub fn log(&self) -> Log {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        entries.sort_by_key(|entry| entry.call.number);
        entries.into_iter().collect()
    }

    /// The number of the newest request.
    pub fn newest(&self) -> u64 {
        self.numbers.load(std::sync::atomic::Ordering::SeqCst)
    }

    /// The process that was stopped past its lease, and when.
    pub fn former(&self) -> Option<(String, Duration)> {
        self.former.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_former(&self, who: String) {
        *self.former.lock().unwrap_or_else(PoisonError::into_inner) = Some((who, self.begun.elapsed()));
    }

    fn add(&self, entry: Entry) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
    }
}

/// What the ways of all operators of a plan share.
pub struct Ground {
    /// The API server.
    pub client: kube::Client,
    /// The kinds of the requests.
    pub kinds: Arc<Kinds>,
    /// What is to befall.
    pub fate: Arc<Fate>,
    /// What was asked.
    pub record: Arc<Record>,
    /// What happened.
    pub observer: Arc<Observer>,
    /// The path of the lease.
    pub lease: String,
    /// The operator that faults befall.
    pub first: Arc<Place>,
    /// The plan's end: nothing is waited for beyond it.
    pub end: CancellationToken,
}

/// One operator's way.
#[derive(Clone)]
pub struct Proxy {
    ground: Arc<Ground>,
    place: Arc<Place>,
}

impl Proxy {
    /// The way of the operator in this place.
    pub fn new(ground: Arc<Ground>, place: Arc<Place>) -> Self {
        Self { ground, place }
    }

    /// Listens, until the plan's end; the port.
    ///
    /// # Errors
    /// When there is no port.
    pub async fn listen(self, tls: TlsAcceptor) -> Result<u16> {
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for the proxy")?;
        let port = listener.local_addr()?.port();
        let end = self.ground.end.clone();
        tokio::spawn(end.run_until_cancelled_owned(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (proxy, tls) = (self.clone(), tls.clone());
                let end = self.ground.end.clone();
                tokio::spawn(end.run_until_cancelled_owned(proxy.serve(stream, tls)));
            }
        }));
        Ok(port)
    }

    async fn serve(self, stream: TcpStream, tls: TlsAcceptor) {
        let _ = stream.set_nodelay(true);
        // One that is killed meanwhile says nothing.
        let Ok(stream) = tls.accept(stream).await else { return };
        let service = service_fn(move |request| {
            let proxy = self.clone();
            async move {
                let end = proxy.ground.end.clone();
                // A task of its own: a request goes on after its caller has given it up.
                let answer = tokio::spawn(end.run_until_cancelled_owned(proxy.handle(request)));
                match answer.await {
                    Ok(Some(answer)) => answer.map_err(Cut),
                    Ok(None) => Err(Cut(anyhow::anyhow!("the plan has ended"))),
                    Err(error) => Err(Cut(error.into())),
                }
            }
            .boxed()
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn handle(self, request: Request<Incoming>) -> Result<Answer> {
        let (parts, body) = request.into_parts();
        let request = Request::from_parts(parts, body.collect().await?.to_bytes());
        let Ground { kinds, record, fate, observer, .. } = self.ground.as_ref();
        let Ok(mut call) = Call::read(kinds, &self.place.who(), record.begun.elapsed(), &request) else {
            return self.forward(&request).await;
        };
        call.number = record.numbers.fetch_add(1, std::sync::atomic::Ordering::SeqCst) + 1;
        let newest = observer.newest();
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let (number, before) = fate.before(self.place.name(), &call, &path);
        let note = |code: u16, what: &str| record.add(befallen(&call, code, what));
        let mut befell = "";
        match before {
            Before::Pass => {}
            Before::Refuse(refusal) => {
                note(refusal.code, &format!("PLANNED: {}", refusal.reason));
                return Ok(refused(&refusal));
            }
            Before::Kill => {
                note(0, "PLANNED: killed before it was done");
                self.place.kill();
                return never().await;
            }
            Before::Serve(list) => {
                note(200, "PLANNED: an older list");
                return Ok(whole(200, list));
            }
            Before::Compacted => {
                note(200, "PLANNED: its past is compacted");
                let error = json!({ "type": "ERROR", "object": Refusal::expired("too old resource version").status() });
                return Ok(whole(200, Bytes::from(format!("{error}\n"))));
            }
            Before::Twice => {
                befell = "PLANNED: done twice ";
                let first = self.forward(&request).await?;
                let (code, first) = (first.status().as_u16(), first.into_body().collect().await?.to_bytes());
                record.add(entry(&call, code, &first, newest, "PLANNED: the first of two "));
            }
            Before::Late => {
                befell = "PLANNED: late ";
                sleep(LATE).await;
            }
        }
        if call.verb == Verb::Watch {
            return self.watch(&request, &call).await;
        }
        let answer = self.forward(&request).await;
        let (code, content) = match answer {
            Ok(answer) => (answer.status().as_u16(), answer.into_body().collect().await?.to_bytes()),
            Err(error) => {
                note(0, &format!("not forwarded: {error}"));
                return Err(error);
            }
        };
        let after = fate.after(self.place.name(), &call, number, code < 300);
        let shown = match &after {
            After::Deliver => befell.to_owned(),
            other => format!("{befell}PLANNED: {other:?} "),
        };
        record.add(entry(&call, code, &content, newest, &shown));
        self.finish(after, code, content).await
    }

    /// Does to an answer what befalls it.
    async fn finish(&self, after: After, code: u16, content: Bytes) -> Result<Answer> {
        let Ground { fate, record, client, first, lease, .. } = self.ground.as_ref();
        match after {
            After::Deliver => {}
            After::Kill => {
                self.place.kill();
                return never().await;
            }
            After::Reset => bail!("reset by the plan"),
            After::TimedOut => return Ok(refused(&Refusal::timeout())),
            After::Record(lists) => {
                for (plural, path) in lists {
                    let list = self.forward(&Request::get(path).body(Bytes::new())?).await?;
                    fate.keep(&plural, list.into_body().collect().await?.to_bytes());
                }
                let (fate, place, end) = (Arc::clone(fate), Arc::clone(&self.place), self.ground.end.clone());
                tokio::spawn(end.run_until_cancelled_owned(async move {
                    sleep(UNTIL_RESTART).await;
                    if fate.restarts() {
                        place.kill();
                    }
                }));
            }
            After::Freeze { arrives } => {
                self.place.stop();
                record.is_former(self.place.who());
                if !arrives {
                    return never().await;
                }
                fate.thaw().await;
                self.place.go_on();
            }
            After::Continue => first.go_on(),
            After::DeleteLease => {
                let _ = client.request_text(Request::delete(lease.as_str()).body(Vec::new())?).await;
            }
        }
        Ok(whole(code, content))
    }

    async fn forward(&self, request: &Request<Bytes>) -> Result<Answer> {
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        let mut forwarded = Request::builder().method(request.method()).uri(path);
        for name in [header::CONTENT_TYPE, header::ACCEPT, header::USER_AGENT] {
            if let Some(value) = request.headers().get(&name) {
                forwarded = forwarded.header(name, value);
            }
        }
        let answer = self.ground.client.send(forwarded.body(Body::from(request.body().clone()))?).await?;
        let (parts, body) = answer.into_parts();
        let mut answer = Response::builder().status(parts.status);
        for name in [header::CONTENT_TYPE, header::RETRY_AFTER] {
            if let Some(value) = parts.headers.get(&name) {
                answer = answer.header(name, value);
            }
        }
        Ok(answer.body(body.map_err(|error| Cut(error.into())).boxed_unsync())?)
    }

    /// Forwards a watch, event by event.
    async fn watch(&self, request: &Request<Bytes>, call: &Call) -> Result<Answer> {
        let answer = self.forward(request).await?;
        self.ground.record.add(befallen(call, answer.status().as_u16(), ""));
        let (parts, body) = answer.into_parts();
        let lines = Lines { body: body.into_data_stream().boxed(), rest: BytesMut::new(), ready: VecDeque::new() };
        let way = (lines, Arc::clone(&self.ground.fate), call.kind.plural.clone());
        let frames = stream::unfold(way, |(mut lines, fate, plural)| async move {
            loop {
                let line = tokio::select! {
                    biased;
                    () = fate.cut(&plural) => return None,
                    line = lines.next() => line?,
                };
                match fate.pass(&plural).await {
                    Passage::Deliver => return Some((line.map(Frame::data), (lines, fate, plural))),
                    Passage::Lost => {}
                    Passage::End => return None,
                }
            }
        });
        Ok(Response::from_parts(parts, StreamBody::new(frames).boxed_unsync()))
    }
}

/// The events of a watch: a line each.
struct Lines {
    body: BoxStream<'static, Result<Bytes, Cut>>,
    rest: BytesMut,
    ready: VecDeque<Bytes>,
}

impl Lines {
    async fn next(&mut self) -> Option<Result<Bytes, Cut>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(Ok(line));
            }
            match self.body.try_next().await {
                Ok(Some(piece)) => self.rest.extend_from_slice(&piece),
                Ok(None) => return None,
                Err(error) => return Some(Err(error)),
            }
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                self.ready.push_back(self.rest.split_to(end + 1).freeze());
            }
        }
    }
}

fn befallen(call: &Call, code: u16, what: &str) -> Entry {
    Entry { call: call.clone(), code, reason: what.to_owned(), revision: 0, changed: false }
}

/// What was answered, as the record has it. A write that changed something answers with a revision that was not there
/// when it came.
fn entry(call: &Call, code: u16, content: &[u8], newest: u64, shown: &str) -> Entry {
    let answer: Value = serde_json::from_slice(content).unwrap_or_default();
    let revision = answer.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    let revision = revision.and_then(|revision| revision.parse().ok()).unwrap_or_default();
    let reason = if code < 300 { "" } else { answer["reason"].as_str().unwrap_or_default() };
    let changed = call.is_write && code < 300 && revision > newest;
    Entry { call: call.clone(), code, reason: format!("{shown}{reason}"), revision, changed }
}

fn refused(refusal: &Refusal) -> Answer {
    let mut answer = whole(refusal.code, Bytes::from(refusal.status().to_string()));
    if let Some(seconds) = refusal.details["retryAfterSeconds"].as_u64() {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    answer
}

fn whole(code: u16, content: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(content).map_err(|never: Infallible| match never {}).boxed_unsync());
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    answer.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
    answer
}

async fn never() -> Result<Answer> {
    std::future::pending().await
}
