//! Merging against a store that fails, loses answers and does late what it was told, with writers that die anywhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::records::list_name;
use super::*;
use crate::ReasonCode;

const FOLDER: &str = "account=1/region=r/day=d";
const PATIENCE: Duration = Duration::from_secs(120);
const NOTHING: &[u8] = b"void";

/// What goes wrong with one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    NotDone,
    AnswerLost,
    /// Done at some time after it was given up.
    Late,
    /// Well; but first something that is late is done.
    AfterALateOne,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    late: VecDeque<(String, Bytes)>,
    faults: VecDeque<Fault>,
    requests: usize,
    voids: usize,
}

impl State {
    fn put_new(&mut self, name: &str, bytes: Bytes) -> bool {
        if self.objects.contains_key(name) {
            return false;
        }
        self.voids += usize::from(bytes == NOTHING);
        self.objects.insert(name.to_owned(), bytes);
        true
    }

    fn do_late(&mut self) {
        if let Some((name, bytes)) = self.late.pop_front() {
            self.put_new(&name, bytes);
        }
    }
}

/// A store; every request takes a turn before it is done, and another until it is answered.
#[derive(Clone, Default)]
struct Store(Arc<Mutex<State>>);

async fn turn() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

fn lost() -> StoreError {
    StoreError::Unavailable(Reason::new(ReasonCode::Connection, "lost"))
}

impl Store {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    async fn ask<A>(
        &self,
        late: Option<(&str, &Bytes)>,
        work: impl FnOnce(&mut State) -> A,
    ) -> Result<A, StoreError> {
        turn().await;
        let (answer, fault) = {
            let mut state = self.state();
            state.requests += 1;
            let fault = state.faults.pop_front().unwrap_or(Fault::None);
            match fault {
                Fault::NotDone => return Err(lost()),
                Fault::Late => {
                    state.late.extend(late.map(|(name, bytes)| (name.to_owned(), bytes.clone())));
                    return Err(lost());
                }
                Fault::AfterALateOne => state.do_late(),
                Fault::None | Fault::AnswerLost => {}
            }
            (work(&mut state), fault)
        };
        turn().await;
        if fault == Fault::AnswerLost { Err(lost()) } else { Ok(answer) }
    }
}

#[async_trait]
impl Merge for Store {
    fn limits(&self) -> MergeLimits {
        MergeLimits { bytes_max: 1, age_max: Duration::ZERO, pieces_max: 1, patience: PATIENCE }
    }

    fn join(&self, objects: &[Bytes]) -> Result<Bytes, Reason> {
        Ok(objects.join(&b' ').into())
    }

    fn void(&self) -> Bytes {
        Bytes::from_static(NOTHING)
    }

    fn is_void(&self, start: &[u8]) -> bool {
        start == NOTHING
    }

    async fn put_new(&self, name: &str, bytes: Bytes) -> Result<bool, StoreError> {
        self.ask(Some((name, &bytes)), |state| state.put_new(name, bytes.clone())).await
    }

    async fn get(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.ask(None, |state| state.objects.get(name).cloned()).await
    }

    async fn start(&self, name: &str) -> Result<Option<Bytes>, StoreError> {
        self.ask(None, |state| state.objects.get(name).map(|bytes| bytes.slice(..4.min(bytes.len())))).await
    }
}

fn piece(number: usize) -> Piece<usize> {
    let name = format!("{FOLDER}/{number}.rows");
    let object = Object { name, bytes: format!("piece{number}").into(), ..Object::default() };
    Piece::new(object, number)
}

/// The store, the time, and what writers believe to be stored.
#[derive(Clone, Default)]
struct World {
    store: Store,
    clock: Arc<Mutex<(Duration, u64)>>,
    /// By writer and piece.
    settled: Arc<Mutex<BTreeSet<(usize, usize)>>>,
    rebuilt: Arc<Mutex<BTreeSet<String>>>,
}

type Writer = Pin<Box<dyn Future<Output = ()>>>;

impl World {
    fn now(&self) -> Duration {
        self.clock.lock().unwrap().0
    }

    fn pass(&self, time: Duration) {
        self.clock.lock().unwrap().0 += time;
    }

    /// Nobody gets the same twice.
    fn new_id(&self) -> String {
        let mut clock = self.clock.lock().unwrap();
        clock.1 += 1;
        format!("g{}", clock.1)
    }

    /// Each object with rows, and the pieces in it.
    fn visible(&self) -> BTreeMap<String, Vec<String>> {
        let state = self.store.state();
        let rows = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let all = state.objects.iter().filter(|(name, bytes)| !name.starts_with('_') && *bytes != NOTHING);
        all.map(|(name, bytes)| (name.clone(), rows(bytes).split(' ').map(str::to_owned).collect())).collect()
    }

    fn times_visible(&self, number: usize) -> usize {
        let name = format!("piece{number}");
        self.visible().values().flatten().filter(|piece| **piece == name).count()
    }

    fn settle(&self, writer: usize, pieces: &[Piece<usize>]) {
        for piece in pieces {
            assert_eq!(self.times_visible(piece.cargo), 1, "piece {} is settled", piece.cargo);
            self.settled.lock().unwrap().insert((writer, piece.cargo));
        }
    }

    /// Stores what comes to `writer` until it owes nothing; `most` pieces at a time.
    fn writer(&self, writer: usize, pieces: &[usize], most: usize) -> Writer {
        let (world, all) = (self.clone(), pieces.to_vec());
        Box::pin(async move {
            let mut waiting: Vec<Piece<usize>> = Vec::new();
            loop {
                turn().await;
                let owes = |number: &usize| !world.settled.lock().unwrap().contains(&(writer, *number));
                let has = |number: &usize| waiting.iter().any(|piece| piece.cargo == *number);
                let fresh: Vec<_> =
                    all.iter().filter(|one| owes(one) && !has(one)).map(|&one| piece(one)).collect();
                if fresh.is_empty() && waiting.is_empty() {
                    return;
                }
                let mut chosen: Vec<_> = waiting.drain(..).chain(fresh).collect();
                let rest = chosen.split_off(most.min(chosen.len()));
                waiting = world.group(writer, chosen).await;
                waiting.extend(rest.into_iter().filter(|piece| piece.waits.is_some()));
            }
        })
    }

    /// One group; gives back what has to wait. What fails too often is dropped, as a lane that shuts drops it.
    async fn group(&self, writer: usize, pieces: Vec<Piece<usize>>) -> Vec<Piece<usize>> {
        let mut forming = Forming::new(Arc::new(self.store.clone()), &self.new_id(), pieces);
        let mut tries = 0;
        while forming.claim(self.now()).await.is_err() {
            tries += 1;
            if tries == 3 {
                return Vec::new();
            }
        }
        let formed = forming.formed();
        self.settle(writer, &formed.stored);
        for mut closed in formed.closed {
            if closed.is_rebuilt() {
                self.rebuilt.lock().unwrap().insert(closed.name().to_owned());
            }
            let (merge, parts) = closed.to_join().unwrap();
            closed.joined(merge.join(&parts).unwrap());
            for _ in 0..3 {
                match closed.store().await {
                    Ok(true) => self.settle(writer, &closed.pieces),
                    Ok(false) => {}
                    Err(_) => continue,
                }
                break;
            }
        }
        formed.later
    }

    /// Nothing that was settled is missing, nothing stands twice, and every object holds what its list says.
    fn judge(&self) {
        for &(writer, number) in self.settled.lock().unwrap().iter() {
            assert_eq!(self.times_visible(number), 1, "writer {writer} has settled piece {number}");
        }
        for (name, pieces) in self.visible() {
            let objects = &self.store.state().objects;
            let list: List = serde_json::from_slice(&objects[&list_name(&name)]).unwrap();
            let listed: Vec<String> =
                list.members.iter().map(|member| format!("piece{}", member.piece)).collect();
            assert_eq!((listed, list.object), (pieces.clone(), name.clone()));
            for piece in &pieces {
                assert_eq!(
                    pieces.iter().filter(|other| *other == piece).count(),
                    1,
                    "{name} has {piece} once"
                );
            }
        }
    }
}

fn poll(writer: &mut Writer) -> bool {
    writer.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
}

/// Lets a writer work to its end, while time passes.
fn finish(world: &World, writer: &mut Writer) {
    for _ in 0..100_000 {
        if poll(writer) {
            return;
        }
        world.pass(Duration::from_secs(1));
    }
    panic!("it never ends");
}

/// What becomes of whom next.
#[derive(Clone, Copy, Debug)]
enum Move {
    Step(usize),
    Die(usize),
    Pass(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        40 => (0..3usize).prop_map(Move::Step),
        1 => (0..3usize).prop_map(Move::Die),
        2 => (1..200u64).prop_map(Move::Pass),
    ];
    prop::collection::vec(one, 0..400)
}

fn faults() -> impl Strategy<Value = Vec<Fault>> {
    let one = prop_oneof![
        12 => Just(Fault::None),
        1 => Just(Fault::NotDone),
        2 => Just(Fault::AnswerLost),
        2 => Just(Fault::Late),
        2 => Just(Fault::AfterALateOne),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn every_piece_stands_in_exactly_one_object_whoever_dies_and_whatever_is_late(
        owed in prop::collection::vec(prop::collection::btree_set(0..6usize, 1..6), 3),
        most in prop::collection::vec(1..6usize, 3),
        moves in moves(),
        faults in faults(),
    ) {
        let world = World::default();
        world.store.state().faults = faults.into();
        let owed: Vec<Vec<usize>> = owed.into_iter().map(|pieces| pieces.into_iter().collect()).collect();
        let start = |number: usize| world.writer(number, &owed[number], most[number]);
        let mut writers: Vec<Option<Writer>> = (0..3).map(|number| Some(start(number))).collect();
        for one in moves {
            match one {
                Move::Step(number) => if writers[number].as_mut().is_some_and(poll) { writers[number] = None },
                // What it owes comes again.
                Move::Die(number) => writers[number] = Some(start(number)),
                Move::Pass(seconds) => world.pass(Duration::from_secs(seconds)),
            }
        }
        world.judge();
        // One of them goes on only when all is over.
        let mut zombie = writers[0].take();
        world.store.state().faults.clear();
        for (number, writer) in writers.iter_mut().enumerate() {
            // Without the time to wait for a late one.
            finish(&world, writer.get_or_insert_with(|| start(number)));
            while number == 1 && !world.store.state().late.is_empty() {
                world.store.state().do_late();
            }
            world.judge();
        }
        if let Some(zombie) = &mut zombie {
            finish(&world, zombie);
        }
        world.judge();
        let all: BTreeSet<usize> = owed.iter().flatten().copied().collect();
        for number in all {
            prop_assert_eq!(world.times_visible(number), 1);
        }
    }
}

/// Runs a writer for so many steps; what is left of it.
fn run_for(world: &World, writer: usize, pieces: &[usize], steps: usize) -> Writer {
    let mut running = world.writer(writer, pieces, 9);
    for _ in 0..steps {
        if poll(&mut running) {
            return Box::pin(async {});
        }
    }
    running
}

#[test]
fn a_writer_that_stops_at_any_request_is_followed_by_another_and_may_go_on_after_it() {
    for steps in 0..80 {
        for others in [&[0, 1, 2][..], &[1, 2, 3], &[2]] {
            let world = World::default();
            let mut zombie = run_for(&world, 0, &[0, 1, 2], steps);
            finish(&world, &mut world.writer(1, others, 9));
            world.judge();
            finish(&world, &mut zombie);
            world.judge();
            let seen: Vec<usize> = (0..4).map(|number| world.times_visible(number)).collect();
            assert_eq!(seen[..3], [1, 1, 1], "stopped after {steps} steps");
        }
    }
}

/// The steps after which a lone writer of three pieces has stored its list, and has yet to store the object.
fn steps_to_the_list() -> usize {
    let listed = |steps: &usize| {
        let world = World::default();
        let _writer = run_for(&world, 0, &[0, 1, 2], *steps);
        let state = world.store.state();
        state.objects.keys().any(|name| name.starts_with("_trailship/groups/"))
    };
    (0..100).find(listed).unwrap()
}

#[test]
fn members_that_come_again_rebuild_exactly_the_group_that_their_list_says() {
    let world = World::default();
    drop(run_for(&world, 0, &[2, 0, 1], steps_to_the_list()));
    assert!(world.visible().is_empty());
    let begun = world.now();
    finish(&world, &mut world.writer(1, &[0, 1, 2, 3], 9));
    assert!(world.now() < begun + PATIENCE, "nobody waits where all are there");
    let visible = world.visible();
    assert_eq!(visible[&format!("{FOLDER}/merged-g1.rows")], ["piece2", "piece0", "piece1"]);
    assert_eq!(visible.len(), 2, "the fourth has a group of its own");
    assert_eq!((world.rebuilt.lock().unwrap().len(), world.store.state().voids), (1, 0));
    world.judge();
}

#[test]
fn a_group_of_which_a_member_is_missing_is_made_void_and_its_writer_is_told() {
    let world = World::default();
    let mut zombie = run_for(&world, 0, &[0, 1, 2], steps_to_the_list());
    let begun = world.now();
    finish(&world, &mut world.writer(1, &[0, 1], 9));
    assert!(world.now() >= begun + PATIENCE, "the other writer has its time");
    assert_eq!(world.store.state().voids, 1);
    assert_eq!((world.times_visible(0), world.times_visible(2)), (1, 0));
    finish(&world, &mut zombie);
    assert_eq!(world.settled.lock().unwrap().len(), 5);
    assert_eq!(world.times_visible(2), 1, "it has found another group for it");
    world.judge();
}

#[test]
fn claimed_for_a_group_without_a_list_a_piece_is_free_after_a_while() {
    let world = World::default();
    // The first claims are there, and nothing else.
    drop(run_for(&world, 0, &[0, 1, 2], 4));
    assert!(world.store.state().objects.keys().all(|name| name.starts_with("_trailship/members/")));
    assert!(!world.store.state().objects.is_empty());
    finish(&world, &mut world.writer(1, &[0, 1, 2], 9));
    assert_eq!(world.store.state().voids, 1);
    world.judge();
}

#[test]
fn what_is_stored_already_costs_a_few_requests_and_no_object() {
    let world = World::default();
    finish(&world, &mut world.writer(0, &[0, 1, 2], 9));
    let before = world.store.state().objects.clone();
    let requests = world.store.state().requests;
    finish(&world, &mut world.writer(1, &[0, 1, 2], 9));
    assert_eq!(world.store.state().objects, before);
    assert_eq!(world.store.state().requests - requests, 3 * 2 + 2);
    assert_eq!(world.settled.lock().unwrap().len(), 6);
}

#[test]
fn a_list_that_somebody_has_deleted_stops_everything_and_says_so() {
    let world = World::default();
    finish(&world, &mut world.writer(0, &[0], 9));
    world.store.state().objects.retain(|name, _| !name.starts_with("_trailship/groups/"));
    let mut forming = Forming::new(Arc::new(world.store.clone()), "g9", vec![piece(0)]);
    let mut claiming = Box::pin(forming.claim(Duration::ZERO));
    let error = loop {
        if let Poll::Ready(result) = claiming.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            break result.unwrap_err();
        }
    };
    assert!(
        matches!(&error, StoreError::Denied(why) if why.to_string().contains("_trailship/")),
        "{error:?}"
    );
}
