//! The server around a stand-in: transport failures, and the line in the ledger that says how a request was answered.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures_util::future::BoxFuture;
use http::StatusCode;

use super::desk::{Counts, Desk, Reply, Turn};
use super::mode::{Failure, Mode};
use crate::edge::Moment;
use crate::http::{Fault, Handler, Request, Response, Server, ServerOptions};
use crate::ledger::Answer;

/// What a request that delivers events is called, whatever the destination.
const DELIVERY: &str = "delivery";

/// One destination's protocol.
pub(super) trait Protocol: Send + Sync + 'static {
    fn desk(&self) -> &Desk;
    /// Whether the request delivers events.
    fn delivers(&self, request: &Request) -> bool;
    /// Stores what is to be stored and answers; what goes wrong on the way back is not its business.
    fn answer(&self, request: &Request, turn: &Turn) -> Reply;
}

/// Counts a request as under way for as long as it lives, even where the peer goes away.
pub(super) struct InFlight<'a>(&'a Desk);

impl<'a> InFlight<'a> {
    pub(super) fn new(desk: &'a Desk) -> Self {
        let now = desk.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        desk.count(|counts| counts.in_flight_max = counts.in_flight_max.max(now));
        Self(desk)
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Puts the mode's transport failures around a protocol.
struct Front<P>(P);

/// An answer on its way, and what the ledger is told once it has arrived: until then it counts as lost.
pub struct Sent {
    /// The answer.
    pub response: Response,
    access: Arc<dyn Access>,
    booked: Option<(u64, Answer)>,
    confirmed: Vec<u64>,
}

impl Sent {
    /// Tells the ledger that the sender has got the answer.
    pub fn arrived(self) {
        let desk = self.access.desk();
        if let Some((request, answer)) = self.booked {
            desk.ledger.answer(&desk.sink, request, answer);
        }
        for request in self.confirmed {
            desk.ledger.confirm(&desk.sink, request);
        }
    }
}

impl<P: Protocol> Front<P> {
    async fn answer(self: Arc<Self>, request: Request) -> Response {
        let mut sent = self.act(request).await;
        // What happens on the way is the failure's doing, and known.
        let response = std::mem::replace(&mut sent.response, Response::new(StatusCode::OK));
        sent.arrived();
        response
    }

    async fn act(self: Arc<Self>, request: Request) -> Sent {
        let access: Arc<dyn Access> = self.clone();
        let plain = |response| Sent { response, access: access.clone(), booked: None, confirmed: Vec::new() };
        let desk = self.0.desk();
        if let Some(what) = request.path.strip_prefix("/_testkit/") {
            return plain(desk.admin(&request, what));
        }
        let _in_flight = InFlight::new(desk);
        let delivers = self.0.delivers(&request);
        let acts_at = |moment| delivers && desk.edges.pass(DELIVERY, moment);
        let reset = || plain(Response::new(StatusCode::OK).with_fault(Fault::Reset));
        if acts_at(Moment::Arrived) {
            return reset();
        }
        let turn = desk.turn(&request, delivers);
        if turn.failure == Failure::Reset {
            return reset();
        }
        let reply = self.0.answer(&request, &turn);
        let confirmed = desk.take_confirmed();
        if acts_at(Moment::Done) {
            return reset();
        }
        let status = reply.response.status.as_u16();
        desk.count(|counts| *counts.statuses.entry(status).or_default() += 1);
        // The peer may go away while it waits: then this future is dropped, and the answer stays lost.
        let wait = turn.wait(request.body.len());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let response = reply.response;
        let fault = match turn.failure {
            Failure::AnswerLost => Some(Fault::Reset),
            Failure::Hangup => Some(Fault::Hangup),
            Failure::NeverAnswer => Some(Fault::NeverAnswer),
            Failure::Garbage => Some(Fault::Garbage),
            Failure::SlowAnswer(bytes_per_second) => Some(Fault::Drip { bytes_per_second }),
            Failure::HalfAnswer => Some(Fault::Truncate { bytes: response.body.len() / 2 }),
            _ => None,
        };
        if let Some(fault) = fault {
            return plain(response.with_fault(fault));
        }
        // A short answer cannot be understood, so it is as good as lost.
        let understood = turn.failure != Failure::ShortAnswer;
        let booked = reply.booked.filter(|_| understood);
        let confirmed = if understood { confirmed } else { Vec::new() };
        Sent { response, access, booked, confirmed }
    }
}

impl<P: Protocol> Handler for Front<P> {
    fn handle(self: Arc<Self>, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(async move { self.answer(request).await })
    }
}

/// A stand-in that runs; dropping it stops it.
pub struct Destination {
    /// Its origin: `http://127.0.0.1:<port>`.
    pub url: String,
    server: Server,
    access: Arc<dyn Access>,
}

trait Access: Send + Sync {
    fn desk(&self) -> &Desk;
    fn act(self: Arc<Self>, request: Request) -> BoxFuture<'static, Sent>;
}

impl<P: Protocol> Access for Front<P> {
    fn desk(&self) -> &Desk {
        self.0.desk()
    }

    fn act(self: Arc<Self>, request: Request) -> BoxFuture<'static, Sent> {
        Box::pin(Self::act(self, request))
    }
}

impl<P: Protocol> Protocol for Arc<P> {
    fn desk(&self) -> &Desk {
        (**self).desk()
    }
    fn delivers(&self, request: &Request) -> bool {
        (**self).delivers(request)
    }
    fn answer(&self, request: &Request, turn: &Turn) -> Reply {
        (**self).answer(request, turn)
    }
}

impl Destination {
    pub(super) async fn start<P: Protocol>(
        protocol: P,
        port: u16,
        options: ServerOptions,
    ) -> io::Result<Self> {
        let front = Arc::new(Front(protocol));
        let addr = ([127, 0, 0, 1], port).into();
        let server = Server::start_with(addr, options, front.clone()).await?;
        Ok(Self { url: server.url(), server, access: front })
    }

    /// Does what a request asks for that came over another network than the machine's. Whoever carries the answer
    /// says whether it has [arrived](Sent::arrived), and acts out its fault.
    pub async fn act(&self, request: Request) -> Sent {
        Arc::clone(&self.access).act(request).await
    }

    /// Changes what goes wrong, from the next request on.
    pub fn set_mode(&self, mode: impl Into<Mode>) {
        self.access.desk().set_mode(mode.into());
    }

    /// Has a test act at a moment of a request that delivers events, after `skip` of them have passed it. That request is
    /// neither stored any further nor answered.
    pub fn act_at(&self, moment: Moment, skip: u64, act: impl FnOnce() + Send + 'static) {
        self.access.desk().edges.arm(DELIVERY, moment, skip, act);
    }

    /// What goes wrong now.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.access.desk().mode()
    }

    /// What it has seen and done.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.access.desk().counts()
    }

    /// The most connections that were open at once.
    #[must_use]
    pub fn connections_open_max(&self) -> usize {
        self.server.connections_open_max()
    }

    /// Its name in the ledger.
    #[must_use]
    pub fn sink(&self) -> &str {
        &self.access.desk().sink
    }

    /// Stops after the answers that are under way (at most 2 s).
    pub async fn shutdown(self) {
        self.server.shutdown().await;
    }
}
