//! The parts that only compute: the order of revisions, the spans of a text, merging. `cargo bench --bench pure`.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use revfs::document;
use revfs::rev::{Rev, conflicts};

/// A text of `members` members.
fn text(members: usize, changed: Option<usize>) -> Vec<u8> {
    let member = |i: usize| {
        let value = if changed == Some(i) { "changed" } else { "Cats are little people!" };
        format!("  \"member {i}\": {{\"text\": \"{value}\", \"numbers\": [1, 2.50, -3e4]}}")
    };
    let members: Vec<String> = (0..members).map(member).collect();
    format!("{{\n{}\n}}\n", members.join(",\n")).into_bytes()
}

fn revs(count: u64) -> Vec<Rev> {
    let name = |i: u64| {
        let digits = i.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Rev::new(format!("{}-{digits:016x}{:016x}", i % (count / 2 + 1), !digits)).expect("a revision's name")
    };
    (0..count).map(name).collect()
}

fn order(c: &mut Criterion) {
    let mut group = c.benchmark_group("order");
    for count in [10, 1000, 100_000] {
        let revs = revs(count);
        group.throughput(Throughput::Elements(count));
        group.bench_function(format!("winner of {count}"), |b| b.iter(|| black_box(&revs).iter().max()));
        group.bench_function(format!("sort {count}"), |b| {
            b.iter_batched_ref(|| revs.clone(), |revs| revs.sort(), BatchSize::LargeInput);
        });
        let mut sorted = revs.clone();
        sorted.sort();
        group.bench_function(format!("conflicts of {count}"), |b| b.iter(|| conflicts(black_box(&sorted))));
    }
    group.finish();
}

fn spans(c: &mut Criterion) {
    let mut group = c.benchmark_group("spans");
    for members in [10, 1000] {
        let text = text(members, None);
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(format!("check {members} members"), |b| {
            b.iter(|| document::check(black_box(&text)))
        });
        group.bench_function(format!("members of {members}"), |b| {
            b.iter(|| document::members(black_box(&text)))
        });
        group.bench_function(format!("view of {members}"), |b| {
            b.iter(|| document::object_view(black_box(&text), "an-id", "3-17e933c018ae425d9e21054e3ea7b0c8"));
        });
    }
    group.finish();
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("merge");
    for members in [10, 1000] {
        let [base, latest, mine] = [None, Some(1), Some(members - 2)].map(|changed| text(members, changed));
        group.throughput(Throughput::Bytes(base.len() as u64));
        group.bench_function(format!("{members} members, other ones changed"), |b| {
            b.iter(|| document::merge(black_box(&base), black_box(&latest), black_box(&mine)));
        });
        group.bench_function(format!("same, {members} members"), |b| {
            b.iter(|| document::same(black_box(&base), black_box(&latest)));
        });
    }
    group.finish();
}

criterion_group!(all, order, spans, merge);
criterion_main!(all);
