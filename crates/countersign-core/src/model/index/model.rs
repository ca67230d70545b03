//! Tests of the index against the plain definition of its answers, and under threads.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use proptest::prelude::*;
use uuid::Uuid;

use crate::model::index::*;

fn user(number: u64) -> UserId {
    UserId::new(&number.to_string()).unwrap()
}

fn session(number: u64) -> SessionId {
    SessionId::new(Uuid::from_u128(number.into()))
}

fn token(number: u64) -> TokenId {
    TokenId::new(Uuid::from_u128(number.into()))
}

/// The log as it is written, and its answers by their definition: the lookup of each entry, and the highest epoch that
/// does not except the session.
#[derive(Clone, Debug, Default)]
struct Plain {
    tokens: BTreeMap<(u64, u64), Timestamp>,
    sessions: BTreeMap<(u64, u64), Timestamp>,
    raises: BTreeMap<u64, Vec<PlainRaise>>,
}

#[derive(Clone, Debug)]
struct PlainRaise {
    epoch: u64,
    except: Option<u64>,
    at: Timestamp,
    until: Timestamp,
}

impl Plain {
    fn insert(&mut self, insert: &Insert, until: Timestamp) {
        match *insert {
            Insert::Token(user, id) => later(&mut self.tokens, (user, id), until),
            Insert::Session(user, id) => later(&mut self.sessions, (user, id), until),
            Insert::Raise { user, epoch, except, at } => {
                let at = Timestamp::from_millis(at);
                self.raises.entry(user).or_default().push(PlainRaise { epoch, except, at, until });
            }
        }
    }

    fn prune(&mut self, now: Timestamp) {
        self.tokens.retain(|_, until| *until > now);
        self.sessions.retain(|_, until| *until > now);
        self.raises.retain(|_, raises| raises.iter().any(|raise| raise.until > now));
    }

    fn check(&self, user: u64, token: u64, standing: Asked) -> Result<(), RevokedBy> {
        let raises = || self.raises.get(&user).into_iter().flatten();
        if self.tokens.contains_key(&(user, token)) {
            return Err(RevokedBy::Token);
        }
        let ended = match standing {
            Asked::Session(id, _) if self.sessions.contains_key(&(user, id)) => {
                return Err(RevokedBy::Session);
            }
            Asked::Session(id, epoch) => {
                raises().filter(|raise| raise.except != Some(id)).map(|raise| raise.epoch).max() > Some(epoch)
            }
            Asked::IssuedAt(at) => {
                raises().map(|raise| raise.at.as_secs()).max() >= Some(Timestamp::from_millis(at).as_secs())
            }
        };
        if ended { Err(RevokedBy::Epoch) } else { Ok(()) }
    }

    fn len(&self) -> usize {
        let deciding = |raises: &Vec<PlainRaise>| {
            raises.iter().map(|raise| raise.except).collect::<BTreeSet<_>>().len().min(2)
        };
        self.tokens.len() + self.sessions.len() + self.raises.values().map(deciding).sum::<usize>()
    }
}

fn later(entries: &mut BTreeMap<(u64, u64), Timestamp>, key: (u64, u64), until: Timestamp) {
    let known = entries.entry(key).or_insert(until);
    *known = (*known).max(until);
}

#[derive(Clone, Copy, Debug)]
enum Asked {
    Session(u64, u64),
    IssuedAt(i64),
}

impl From<Asked> for TokenEpoch {
    fn from(asked: Asked) -> Self {
        match asked {
            Asked::Session(id, epoch) => Self::Session(session(id), Epoch::new(epoch)),
            Asked::IssuedAt(at) => Self::IssuedAt(Timestamp::from_millis(at)),
        }
    }
}

#[derive(Clone, Debug)]
enum Insert {
    Token(u64, u64),
    Session(u64, u64),
    Raise { user: u64, epoch: u64, except: Option<u64>, at: i64 },
}

#[derive(Clone, Debug)]
enum Step {
    Insert(Insert, i64),
    Prune(i64),
}

const USERS: u64 = 3;
const IDS: u64 = 30;
const EPOCHS: u64 = 8;
const MILLIS: i64 = 6_000;

fn insert() -> impl Strategy<Value = Insert> {
    prop_oneof![
        (0..USERS, 0..IDS).prop_map(|(user, id)| Insert::Token(user, id)),
        (0..USERS, 0..IDS).prop_map(|(user, id)| Insert::Session(user, id)),
        (0..USERS, 0..EPOCHS, prop::option::of(0..IDS), 0..MILLIS)
            .prop_map(|(user, epoch, except, at)| Insert::Raise { user, epoch, except, at }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (insert(), 0..MILLIS).prop_map(|(insert, until)| Step::Insert(insert, until)),
        1 => (0..MILLIS).prop_map(Step::Prune),
    ];
    prop::collection::vec(step, 0..250)
}

fn entry(insert: &Insert, until: Timestamp) -> Entry {
    let (target, at) = match *insert {
        Insert::Token(owner, id) => (Target::Token { user_id: user(owner), id: token(id) }, 0),
        Insert::Session(owner, id) => (Target::Session { user_id: user(owner), id: session(id) }, 0),
        Insert::Raise { user: raised, epoch, except, at } => {
            let (user_id, except) = (user(raised), except.map(session));
            (Target::User { user_id, epoch: Epoch::new(epoch), except }, at)
        }
    };
    Entry { target, until, at: Timestamp::from_millis(at) }
}

fn questions() -> impl Iterator<Item = (u64, u64, Asked)> {
    let sessions = (0..IDS).flat_map(|id| (0..EPOCHS + 1).map(move |epoch| Asked::Session(id, epoch)));
    let times = (0..=MILLIS).step_by(250).map(Asked::IssuedAt);
    let asked = sessions.chain(times).enumerate();
    asked.flat_map(|(number, asked)| (0..USERS).map(move |user| (user, number as u64 % IDS, asked)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_index_answers_like_the_whole_log(steps in steps()) {
        let index = Index::new();
        // Pruning may leave some entries for later, so the index revokes what the pruned log revokes, and nothing that
        // the whole log doesn't.
        let (mut live, mut whole) = (Plain::default(), Plain::default());
        let mut pruned = false;
        for step in &steps {
            match step {
                Step::Insert(insert, until) => {
                    let until = Timestamp::from_millis(*until);
                    index.insert(&entry(insert, until));
                    live.insert(insert, until);
                    whole.insert(insert, until);
                }
                Step::Prune(now) => {
                    let now = Timestamp::from_millis(*now);
                    index.prune(now);
                    live.prune(now);
                    pruned = true;
                }
            }
        }
        for (owner, id, asked) in questions() {
            let answer = index.check(&user(owner), token(id), asked.into());
            let (least, most) = (live.check(owner, id, asked), whole.check(owner, id, asked));
            prop_assert!(answer.is_err() >= least.is_err() && answer.is_err() <= most.is_err());
            if !pruned {
                prop_assert_eq!(answer, whole.check(owner, id, asked));
            }
        }
        prop_assert!(pruned || index.len() == whole.len());
        prop_assert!(index.len() >= live.len() && index.len() <= whole.len());
        index.prune(Timestamp::from_millis(MILLIS));
        prop_assert!(index.is_empty());
    }
}

#[test]
fn readers_meet_everything_whose_insert_has_returned_while_tables_come_and_go() {
    const STEPS: u64 = 3_000;
    const ADA: u64 = u64::MAX;
    let (soon, later) = (Timestamp::from_secs(1), Timestamp::from_secs(1_000));
    let (index, inserted, done) = (Index::new(), AtomicU64::new(0), AtomicBool::new(false));
    let write = || {
        for step in 0..STEPS {
            let raise = |user, epoch, except| Insert::Raise { user, epoch, except, at: 0 };
            for (insert, until) in [
                (Insert::Token(ADA, step), later),
                (Insert::Session(step % 7, step), later),
                (raise(step, 1, None), later),
                (raise(ADA, step + 1, Some(step)), later),
                // These entries make room again for a smaller table.
                (Insert::Token(ADA, STEPS + step), soon),
                (Insert::Session(step % 7, STEPS + step), soon),
                (raise(STEPS + step, 1, None), soon),
            ] {
                index.insert(&entry(&insert, until));
            }
            inserted.store(step + 1, Ordering::Release);
        }
        done.store(true, Ordering::Release);
    };
    let read = || {
        let revoked = |owner, id, asked: Asked| index.check(&user(owner), token(id), asked.into()).err();
        let (stranger, mut from) = (u64::MAX, 0);
        loop {
            let last = done.load(Ordering::Acquire);
            let count = inserted.load(Ordering::Acquire);
            // Every entry is looked at in the end, and before that the latest and some others in turn.
            let recent = count.saturating_sub(5)..count;
            let others = if last { 0..count } else { from % (count + 1)..(from + 50).min(count) };
            from = others.end % (count + 1);
            for step in recent.chain(others) {
                assert_eq!(revoked(ADA, step, Asked::Session(stranger, STEPS)), Some(RevokedBy::Token));
                assert_eq!(
                    revoked(step % 7, stranger, Asked::Session(step, 1)),
                    Some(RevokedBy::Session),
                    "{step}"
                );
                assert_eq!(
                    revoked(step, stranger, Asked::Session(stranger, 0)),
                    Some(RevokedBy::Epoch),
                    "{step}"
                );
                assert_eq!(revoked(step, stranger, Asked::Session(stranger, 1)), None, "{step}");
            }
            if let Some(epoch) = count.checked_sub(1) {
                // Whichever session a raise excepts, all others have to be of its epoch, and that one of the epoch
                // before.
                assert_eq!(revoked(ADA, stranger, Asked::Session(stranger, epoch)), Some(RevokedBy::Epoch));
                let before = epoch.checked_sub(1).map(|before| Asked::Session(epoch, before));
                assert!(before.is_none_or(|asked| revoked(ADA, stranger, asked).is_some()));
                assert_eq!(revoked(ADA, stranger, Asked::Session(stranger, STEPS)), None);
            }
            if last {
                break;
            }
        }
    };
    thread::scope(|scope| {
        scope.spawn(write);
        scope.spawn(read);
        scope.spawn(read);
        while !done.load(Ordering::Acquire) {
            index.prune(soon);
        }
    });
    index.prune(soon);
    // Up to an eighth more entries may be left, which have expired in single parts.
    let live = usize::try_from(STEPS).unwrap() * 3 + 2;
    assert!((live..=live + live / 7).contains(&index.len()), "{} of {live}", index.len());
}
