//! What a writer knows, by the test's own process tree.
//!
//! Invariant: nothing here knows of revisions, of mounts' memories or of `/proc`. Who is whose child, who began before what
//! and who has ended is what the test did itself, in the order in which it did it.

use std::collections::BTreeMap;

/// A process of the test. Numbers are never used again.
pub type Node = usize;

/// How many ticks of the start time (10 ms each) two moments may be apart for anybody to take one for the other.
pub const TICKS: u64 = 2;

/// The test process itself.
pub const ROOT: Node = 0;

struct Process {
    parent: Option<Node>,
    began: u64,
    /// The same as a start time; `None` of processes that were over before anybody else did anything.
    tick: Option<u64>,
    ended: Option<u64>,
}

/// Who has read or saved what, and when.
struct Event {
    who: Node,
    what: What,
    reign: Reign,
    moment: u64,
    tick: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Read,
    Saved,
    /// Whether who removes a text knows it is left open.
    Removed,
}

/// How many texts an object has shown before this one, in how many lives. A life ends where the object vanishes without a
/// trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reign {
    pub life: usize,
    pub number: usize,
}

/// `Maybe`: the definition leaves it open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    No,
    Maybe,
    Yes,
}

/// An event that a process knows, or may know.
#[derive(Clone, Copy, Debug)]
pub struct Fact {
    pub reign: Reign,
    pub known: Known,
    pub what: What,
    /// It did that itself.
    pub own: bool,
}

pub type Knowledge = Vec<Fact>;

/// One object on one mount: mounts do not tell each other of events.
pub type Where = (usize, usize);

/// What the mount may do with a save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    pub may_be_fresh: bool,
    pub may_conflict: bool,
    /// Nothing is known of the writer.
    pub blind: bool,
    /// It is open only because of events in an earlier life of the object, or because the writer has removed it.
    pub weakly: bool,
    /// It is open only because the writer has read the latest text itself and saves one that was made from an older one:
    /// what a process knows is one thing, what an editor's buffer holds another.
    pub reread: bool,
}

pub struct Tree {
    processes: Vec<Process>,
    events: BTreeMap<Where, Vec<Event>>,
    moment: u64,
}

impl Tree {
    /// With [`ROOT`] alone.
    pub fn new() -> Tree {
        let root = Process { parent: None, began: 0, tick: None, ended: None };
        Tree { processes: vec![root], events: BTreeMap::new(), moment: 0 }
    }

    fn now(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// A process is there that lives on while others read and save.
    pub fn begin(&mut self, parent: Node, tick: u64) -> Node {
        let began = self.now();
        self.processes.push(Process { parent: Some(parent), began, tick: Some(tick), ended: None });
        self.processes.len() - 1
    }

    /// A process that is over before anybody else does anything.
    pub fn brief(&mut self, parent: Node) -> Node {
        let began = self.now();
        self.processes.push(Process { parent: Some(parent), began, tick: None, ended: None });
        self.processes.len() - 1
    }

    pub fn parent(&self, node: Node) -> Node {
        self.processes[node].parent.unwrap_or(ROOT)
    }

    pub fn end(&mut self, node: Node) {
        let now = self.now();
        self.processes[node].ended = Some(now);
    }

    /// `who` has read or saved the text of this reign, not before `tick`.
    pub fn event(&mut self, who: Node, what: What, at: Where, reign: Reign, tick: u64) {
        let moment = self.now();
        self.events.entry(at).or_default().push(Event { who, what, reign, moment, tick });
    }

    /// The process and its ancestors. Sessions do not matter: who began after another had ended is later than all it did.
    fn chain(&self, node: Node) -> Vec<Node> {
        std::iter::successors(Some(node), |&node| self.processes[node].parent).collect()
    }

    /// Rules 1 to 4: whether an event is known to a writer now.
    fn known(&self, event: &Event, writer: Node) -> Known {
        let (theirs, own) = (self.chain(event.who), self.chain(writer));
        let Some((i, j)) =
            theirs.iter().enumerate().find_map(|(i, x)| Some((i, own.iter().position(|y| x == y)?)))
        else {
            return Known::No;
        };
        let ended = |branch: &[Node]| {
            let over = |node: &Node| self.processes[*node].ended.is_some();
            match branch.last().is_some_and(over) {
                true if branch.iter().all(over) => Known::Yes,
                // Its first process has ended, the one that knows has not.
                true => Known::Maybe,
                false => Known::No,
            }
        };
        let before = |branch: Node| match &self.processes[branch] {
            process if event.moment < process.began => Known::Yes,
            process if process.tick.is_some_and(|tick| event.tick <= tick + TICKS) => Known::Maybe,
            _ => Known::No,
        };
        let known = match (i, j) {
            (0, 0) => return Known::Yes,
            (0, _) => before(own[j - 1]),
            (_, 0) => ended(&theirs[..i]),
            _ => ended(&theirs[..i]).min(before(own[j - 1])),
        };
        // A process whose parent has ended belongs to another one; whether its ancestors were noted before is left open.
        let ended_by = |node: Node, moment| self.processes[node].ended.is_some_and(|ended| ended <= moment);
        let orphan = own[1..=j].iter().any(|&node| ended_by(node, self.moment))
            || (i > 0 && theirs[1..=i].iter().any(|&node| ended_by(node, event.moment)));
        if orphan { known.min(Known::Maybe) } else { known }
    }

    /// What a process knows of an object now.
    pub fn knowledge(&self, who: Node, at: Where) -> Knowledge {
        let all = self.events.get(&at).into_iter().flatten().map(|event| Fact {
            reign: event.reign,
            known: self.known(event, who),
            what: event.what,
            own: event.who == who,
        });
        all.filter(|fact| fact.known > Known::No).collect()
    }
}

/// Judges the save of a text over that of `reign` by somebody who knows this; `made_from`: whose text it changes.
pub fn judge(knowledge: &Knowledge, reign: Reign, made_from: Option<Reign>) -> Verdict {
    let best = |wanted: &dyn Fn(&Fact) -> bool| {
        let all = knowledge.iter().filter(|fact| wanted(fact)).map(|fact| fact.known);
        all.max().unwrap_or(Known::No)
    };
    let counts = |fact: &Fact| fact.what != What::Removed && fact.reign.life == reign.life;
    let latest = best(&|fact| fact.reign >= reign);
    let older = best(&|fact| counts(fact) && fact.reign < reign);
    let weak = best(&|fact| !counts(fact) && fact.reign < reign);
    let conflict = latest < Known::Yes && older > Known::No;
    let weakly = latest < Known::Yes && older < Known::Yes && weak > Known::No;
    let from_others = best(&|fact| fact.reign >= reign && !(fact.own && fact.what == What::Read));
    let reread = from_others < Known::Yes && made_from.is_some_and(|made_from| made_from < reign);
    Verdict {
        may_conflict: conflict || weakly || (reread && latest == Known::Yes),
        may_be_fresh: latest > Known::No || older < Known::Yes,
        blind: latest == Known::No && older == Known::No && weak == Known::No,
        weakly: weakly && !conflict,
        reread: reread && latest == Known::Yes,
    }
}

/// The model is judged before it judges.
#[test]
fn rules_on_a_small_tree() {
    const AT: Where = (0, 0);
    let reign = |number| Reign { life: 0, number };
    // Whether a save over the second text must conflict, must not, or may.
    let conflicts = |tree: &Tree, who| {
        let verdict = judge(&tree.knowledge(who, AT), reign(1), None);
        (verdict.may_conflict != verdict.may_be_fresh).then_some(verdict.may_conflict)
    };
    let mut tree = Tree::new();
    let shell = tree.begin(ROOT, 10);
    let reader = tree.begin(shell, 20);
    tree.event(reader, What::Read, AT, reign(0), 30);
    let stranger = tree.begin(ROOT, 40);
    assert_eq!(conflicts(&tree, stranger), Some(false), "blind");
    tree.event(stranger, What::Saved, AT, reign(1), 50);
    assert_eq!(conflicts(&tree, reader), Some(true), "it has read the first one");
    assert_eq!(conflicts(&tree, stranger), Some(false), "its own");
    assert_eq!(conflicts(&tree, shell), Some(false), "blind: its child lives");
    tree.end(reader);
    assert_eq!(conflicts(&tree, shell), Some(true), "its child has ended");
    let next = tree.begin(shell, 60);
    assert_eq!(conflicts(&tree, next), Some(true), "it began after its sibling had ended");
    tree.event(shell, What::Saved, AT, reign(1), 61);
    assert_eq!(conflicts(&tree, next), None, "in one tick");
    tree.event(shell, What::Saved, AT, reign(1), 80);
    let last = tree.begin(shell, 90);
    assert_eq!(conflicts(&tree, last), Some(false), "its parent knew before it began");
    let other = tree.begin(ROOT, 100);
    assert_eq!(conflicts(&tree, other), Some(false), "blind: the shell lives");
    tree.event(other, What::Read, AT, reign(1), 110);
    let verdict = judge(&tree.knowledge(other, AT), reign(1), Some(reign(0)));
    assert!(verdict.reread && verdict.may_be_fresh && verdict.may_conflict);
    assert!(!judge(&tree.knowledge(other, AT), reign(1), Some(reign(1))).may_conflict);
}
