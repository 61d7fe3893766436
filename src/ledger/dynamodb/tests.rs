//! The ledger in a table, against answers that are made up here; the stand-in and AWS's own engine are asked elsewhere.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Mutex;

use testkit::ports::SimulatedClock;

use super::*;

type Answer = Option<Result<Value, CallError>>;

/// Gives the answers in turn, `{}` where there are no more; `None` is never answered.
#[derive(Default)]
struct Scripted {
    answers: Mutex<VecDeque<Answer>>,
    asked: Mutex<Vec<(&'static str, Value)>>,
}

#[async_trait]
impl LedgerTable for Scripted {
    async fn call(&self, operation: &'static str, input: &Value) -> Result<Value, CallError> {
        self.asked.lock().unwrap().push((operation, input.clone()));
        let answer = self.answers.lock().unwrap().pop_front();
        match answer {
            Some(Some(answer)) => answer,
            Some(None) => std::future::pending().await,
            None => Ok(json!({})),
        }
    }
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl LedgerObserver for Told {
    fn failed(&self, operation: &'static str, why: Option<&CallError>) {
        let why = why.map_or_else(|| "left alone".to_owned(), |why| why.code.clone());
        self.0.lock().unwrap().push(format!("{operation}: {why}"));
    }

    fn back(&self) {
        self.0.lock().unwrap().push("back".to_owned());
    }
}

struct Bench {
    ledger: DynamoDbLedger,
    table: Arc<Scripted>,
    told: Arc<Told>,
    clock: Arc<SimulatedClock>,
}

impl Bench {
    fn new(answers: Vec<Answer>) -> Self {
        let clock = Arc::new(SimulatedClock::new(1_700_000_000));
        let table = Arc::new(Scripted { answers: Mutex::new(answers.into()), ..Scripted::default() });
        let told = Arc::<Told>::default();
        let place = ("ledger".to_owned(), Duration::from_secs(1000));
        let memory = MemoryLedger::new(100);
        let ledger = DynamoDbLedger::new(memory, table.clone(), place, clock.clone(), told.clone());
        Self { ledger, table, told, clock }
    }

    fn operations(&self) -> Vec<&'static str> {
        self.table.asked.lock().unwrap().iter().map(|(operation, _)| *operation).collect()
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.0.lock().unwrap())
    }
}

fn error(code: &str) -> Answer {
    Some(Err(CallError { code: code.to_owned(), message: String::new() }))
}

fn delivered(version: &str, marks: &[&str]) -> Delivered {
    let version = ObjectVersion::of_object(Some(version), None).unwrap();
    Delivered { version, events: 7, marks: set(marks) }
}

fn set(marks: &[&str]) -> BTreeSet<String> {
    marks.iter().map(|mark| (*mark).to_owned()).collect()
}

fn item(version: &str, expires_at: u64, marks: &[&str]) -> Answer {
    let version = ObjectVersion::of_object(Some(version), None).unwrap().to_hex();
    let mut item = json!({
        "id": { "S": "f" }, "version": { "S": version }, "events": { "N": "7" },
        "expires_at": { "N": expires_at.to_string() },
    });
    for mark in marks {
        item[format!("sink:{mark}")] = json!({ "N": "1700000000" });
    }
    Some(Ok(json!({ "Item": item })))
}

#[tokio::test(start_paused = true)]
async fn what_stands_in_the_table_is_read_once_and_then_remembered() {
    let bench = Bench::new(vec![item("1", 1_700_000_001, &["a@1", "b@2"])]);
    let wanted = set(&["a@1", "b@2"]);
    assert_eq!(bench.ledger.look("f", &wanted).await, Some(delivered("1", &["a@1", "b@2"])));
    assert_eq!(bench.ledger.look("f", &wanted).await, Some(delivered("1", &["a@1", "b@2"])));
    assert_eq!(bench.operations(), ["GetItem"]);
    let (_, asked) = bench.table.asked.lock().unwrap()[0].clone();
    assert_eq!((&asked["ConsistentRead"], &asked["Key"]["id"]["S"]), (&true.into(), &"f".into()));
    // One more sink: the memory does not know all that is wanted.
    let more = set(&["a@1", "b@2", "c@3"]);
    assert_eq!(bench.ledger.look("f", &more).await, Some(delivered("1", &["a@1", "b@2"])));
    assert_eq!(bench.operations(), ["GetItem", "GetItem"]);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_and_what_nobody_of_us_wrote_is_not_believed() {
    let odd = json!({ "Item": { "id": { "S": "f" }, "version": { "S": "1" }, "events": { "N": "many" } } });
    let bench = Bench::new(vec![item("1", 1_700_000_000, &["a@1"]), Some(Ok(odd))]);
    for _ in 0..2 {
        assert_eq!(bench.ledger.look("f", &set(&["a@1"])).await, None);
    }
    assert_eq!(bench.told(), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn a_note_holds_its_item_to_the_version_and_replaces_another_one() {
    let bench = Bench::new(vec![error("ConditionalCheckFailedException")]);
    bench.ledger.note("f", &delivered("2", &["a@1", "b@2"])).await;
    assert_eq!(bench.operations(), ["UpdateItem", "PutItem"]);
    let asked = bench.table.asked.lock().unwrap().clone();
    let version = delivered("2", &[]).version.to_hex();
    let (update, put) = (&asked[0].1, &asked[1].1);
    assert_eq!(update["ConditionExpression"], "attribute_not_exists(#v) OR #v = :v");
    assert_eq!(update["UpdateExpression"], "SET #v = :v, #n = :n, #x = :x, #s0 = :t, #s1 = :t");
    assert_eq!(update["ExpressionAttributeValues"][":v"]["S"], version);
    assert_eq!(update["ExpressionAttributeValues"][":x"]["N"], "1700001000");
    assert_eq!(update["ExpressionAttributeNames"]["#s1"], "sink:b@2");
    assert_eq!(put["ConditionExpression"], "attribute_not_exists(#v) OR #v <> :v");
    assert_eq!(
        (&put["Item"]["version"]["S"], &put["Item"]["sink:a@1"]["N"]),
        (&version.into(), &"1700000000".into())
    );
    assert_eq!(bench.told(), Vec::<String>::new(), "a condition that does not hold is an answer");
}

#[tokio::test(start_paused = true)]
async fn a_table_that_fails_costs_a_second_and_is_then_left_alone_for_a_while() {
    let denied = error("AccessDeniedException");
    let bench = Bench::new(vec![None, denied]);
    let start = bench.clock.monotonic();
    assert_eq!(bench.ledger.look("f", &set(&["a@1"])).await, None);
    assert_eq!(bench.clock.monotonic() - start, LOOK_TIME);
    bench.ledger.note("f", &delivered("1", &["a@1"])).await;
    assert_eq!(bench.operations(), ["GetItem"]);
    assert_eq!(bench.told(), ["look: ", "note: left alone"]);
    // What this agent knows itself, it knows.
    assert_eq!(bench.ledger.look("f", &set(&["a@1"])).await, Some(delivered("1", &["a@1"])));
    bench.clock.sleep(Duration::from_secs(5)).await;
    bench.ledger.note("f", &delivered("1", &["a@1"])).await;
    bench.ledger.note("f", &delivered("1", &["a@1"])).await;
    assert_eq!(bench.told(), ["note: AccessDeniedException", "note: left alone"]);
    bench.clock.sleep(Duration::from_secs(10)).await;
    bench.ledger.note("f", &delivered("1", &["a@1"])).await;
    bench.ledger.note("f", &delivered("1", &["a@1"])).await;
    assert_eq!(bench.told(), ["back"]);
    assert_eq!(bench.operations(), ["GetItem", "UpdateItem", "UpdateItem", "UpdateItem"]);
}
