//! Drawing branches with characters, as `git log --graph` does.

/// What stands before each node's line, and the lines to draw above it. Nodes come newest first, each with the one it was
/// made from; that must come later, or is left out.
pub fn graph<T: PartialEq + Clone>(nodes: &[(T, Option<T>)]) -> Vec<(Vec<String>, String)> {
    // Which node each column leads down to.
    let mut columns: Vec<T> = Vec::new();
    let mut drawn = Vec::with_capacity(nodes.len());
    for (i, (node, parent)) in nodes.iter().enumerate() {
        let mut above = Vec::new();
        let waiting = |columns: &[T]| -> Vec<usize> {
            columns.iter().enumerate().filter(|(_, to)| *to == node).map(|(i, _)| i).collect()
        };
        // Branches that end here bend to the leftmost of them, the rightmost first.
        while let [first, .., last] = waiting(&columns)[..] {
            above.push(bend(columns.len(), first, last));
            columns.remove(last);
        }
        let at = waiting(&columns).first().copied().unwrap_or_else(|| {
            columns.push(node.clone());
            columns.len() - 1
        });
        let cell: String = (0..columns.len()).map(|i| if i == at { "* " } else { "| " }).collect();
        drawn.push((above, cell));
        match parent.as_ref().filter(|parent| nodes[i + 1..].iter().any(|(later, _)| later == *parent)) {
            Some(parent) => columns[at] = parent.clone(),
            None => drop(columns.remove(at)),
        }
    }
    let width = drawn.iter().map(|(_, cell)| cell.len()).max().unwrap_or(0);
    drawn.into_iter().map(|(above, cell)| (above, format!("{cell:<width$}"))).collect()
}

/// The line in which column `last` bends to column `first`, and those right of it move one to the left.
fn bend(columns: usize, first: usize, last: usize) -> String {
    let mut line = String::new();
    for i in 0..columns {
        let bar = if i < last { '|' } else { ' ' };
        let bar = if i > last { ' ' } else { bar };
        line.push(if i == last { ' ' } else { bar });
        line.push(match i {
            _ if i + 1 == last || (i + 1 > last && i + 1 < columns) => '/',
            _ if i >= first && i + 1 < last => '_',
            _ => ' ',
        });
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn draws(nodes: &[(char, Option<char>)], expected: &str) {
        let mut text = String::new();
        for ((above, cell), (node, _)) in graph(nodes).into_iter().zip(nodes) {
            above.iter().for_each(|line| text += &format!("{line}\n"));
            text += &format!("{cell}{node}\n");
        }
        assert_eq!(text, expected);
    }

    #[test]
    fn a_line() {
        draws(&[('c', Some('b')), ('b', Some('a')), ('a', None)], "* c\n* b\n* a\n");
        draws(&[('c', Some('x')), ('b', None)], "* c\n* b\n");
        draws(&[], "");
    }

    #[test]
    fn branches_end_where_they_began() {
        let two = [('e', Some('d')), ('d', Some('b')), ('c', Some('b')), ('b', Some('a')), ('a', None)];
        draws(&two, "*   e\n*   d\n| * c\n|/\n*   b\n*   a\n");
        let three = [('d', Some('a')), ('c', Some('a')), ('b', Some('a')), ('a', None)];
        draws(&three, "*     d\n| *   c\n| | * b\n|_|/\n|/\n*     a\n");
        // One that goes on stands between.
        let between = [('e', Some('b')), ('d', Some('a')), ('c', Some('b')), ('b', Some('a')), ('a', None)];
        draws(&between, "*     e\n| *   d\n| | * c\n|_|/\n* |   b\n|/\n*     a\n");
        let moved = [('e', Some('b')), ('d', Some('b')), ('c', Some('a')), ('b', Some('a')), ('a', None)];
        draws(&moved, "*     e\n| *   d\n| | * c\n|/ /\n* |   b\n|/\n*     a\n");
    }
}
