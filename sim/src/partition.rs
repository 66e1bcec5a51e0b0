//! Which rows of a data set each client has.

mod dirichlet;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crate::chance::Chance;
use crate::population::{MAX_CLIENTS, PopulationError};

/// How rows are shared out.
#[derive(Debug, Clone, PartialEq)]
pub enum Partition {
    /// At random, in equal parts.
    Iid,
    /// At random, in equal parts whose labels differ: each client draws its own shares of the labels from a Dirichlet distribution around those
    /// of the data, and its rows by them, without replacement (Hsu, Qi and Brown 2019, section 3). Once the rows of a label are spent, the others
    /// share its place: the clients that come last, in random order, take what is left.
    Dirichlet {
        /// Concentration: large is near IID, near 0 is one label a client.
        alpha: f64,
        /// Fewest rows of a client.
        min: u32,
    },
    /// Sorted by label, cut into `per_client` shards a client, dealt at random (McMahan et al. 2017, section 3).
    Shards {
        /// Shards of each client: with two and ten balanced labels, "two-digit clients".
        per_client: u32,
    },
    /// One client a value of a column, for instance a user or a site; clients are in the order of their values.
    Key {
        /// Its name.
        column: String,
    },
    /// One client a file of the data folder: the caller names each row's file as its key.
    Files,
    /// As `of` says, into fewer parts than there are clients: client i has part i modulo their number. Rows are then of several clients.
    Reused {
        /// How the parts are made; not itself reused.
        of: Box<Partition>,
        /// How many; `None` for as many as the rows give.
        parts: Option<u32>,
    },
}

/// Which rows each client has: offsets and row numbers, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    clients: u32,
    /// Where each part begins in `rows`, and one more at the end. Client i has part i modulo their number.
    offsets: Vec<u32>,
    rows: Vec<u32>,
    notes: Vec<String>,
}

impl Parts {
    /// Of each client, the numbers of its rows.
    ///
    /// # Errors
    /// [`PopulationError`] where there is no client, one without rows, or more than 2^32 - 1 rows.
    pub fn from_lists<L: AsRef<[u32]>>(lists: impl IntoIterator<Item = L>) -> Result<Self, PopulationError> {
        let mut parts = Self {
            clients: 0,
            offsets: vec![0],
            rows: Vec::new(),
            notes: Vec::new(),
        };
        for list in lists {
            let list = list.as_ref();
            if list.is_empty() {
                let problem = format!("client {} has no rows", parts.clients);
                return Err(PopulationError::new(
                    "partition",
                    problem,
                    "give each client a row, or run fewer clients",
                ));
            }
            parts.rows.extend_from_slice(list);
            let end = u32::try_from(parts.rows.len()).ok();
            match (end, parts.clients) {
                (Some(end), clients) if clients < MAX_CLIENTS => parts.offsets.push(end),
                _ => {
                    let fix = format!("use at most {MAX_CLIENTS} clients and {} rows", u32::MAX);
                    return Err(PopulationError::new("partition", "too many clients or rows", fix));
                }
            }
            parts.clients += 1;
        }
        if parts.clients == 0 {
            return Err(PopulationError::new("clients", "there are none", "use at least 1"));
        }
        Ok(parts)
    }

    /// How many clients there are.
    pub fn clients(&self) -> usize {
        self.clients as usize
    }

    /// The rows of a client, ascending where [`Partition::split`] made them. Panics for a client that isn't there.
    pub fn rows(&self, client: u32) -> &[u32] {
        assert!(client < self.clients, "client {client} of {}", self.clients);
        let part = client as usize % (self.offsets.len() - 1);
        &self.rows[self.offsets[part] as usize..self.offsets[part + 1] as usize]
    }

    /// What a report has to say about the parts: that they are reused, that keys were left out.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl Partition {
    /// The word for it in a population file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Iid => "iid",
            Self::Dirichlet { .. } => "dirichlet",
            Self::Shards { .. } => "shards",
            Self::Key { .. } => "key",
            Self::Files => "files",
            Self::Reused { of, .. } => of.name(),
        }
    }

    /// Whether [`Partition::split`] needs labels.
    pub fn needs_labels(&self) -> bool {
        match self {
            Self::Dirichlet { .. } | Self::Shards { .. } => true,
            Self::Reused { of, .. } => of.needs_labels(),
            Self::Iid | Self::Key { .. } | Self::Files => false,
        }
    }

    /// Shares `rows` rows out to `clients` clients. The same arguments give the same parts. Every row is used once, but for keys that are not
    /// drawn and parts that are reused.
    ///
    /// # Shapes and units
    /// `labels`: `[rows]`, the class of each row, for Dirichlet and shards. `keys`: `[rows]`, whose each row is, for keys and files.
    ///
    /// # Errors
    /// [`PopulationError`] where labels or keys are missing or of another length, a client would be without rows (or below `min`), there are
    /// more clients than keys, or a key is empty.
    pub fn split(
        &self,
        rows: u32,
        labels: Option<&[u32]>,
        keys: Option<&[String]>,
        clients: u32,
        seed: u64,
    ) -> Result<Parts, PopulationError> {
        if clients == 0 || clients > MAX_CLIENTS {
            let problem = format!("{clients} are not possible");
            return Err(PopulationError::new("clients", problem, format!("use 1 to {MAX_CLIENTS}")));
        }
        if rows == 0 {
            return Err(PopulationError::new("data", "there are no rows", "give a data set with rows"));
        }
        let mut chance = Chance::new(seed, "partition");
        match self {
            Self::Iid => {
                enough(rows, 1, clients, "one row each")?;
                let mut order: Vec<u32> = (0..rows).collect();
                chance.shuffle(&mut order);
                let parts = cut(order.len(), clients).map(|range| sorted(&order[range]));
                Parts::from_lists(parts)
            }
            Self::Dirichlet { alpha, min } => {
                let labels = labelled(labels, rows)?;
                enough(rows, *min, clients, "partition.min each")?;
                dirichlet::split(labels, *alpha, clients, &mut chance)
            }
            Self::Shards { per_client } => {
                let labels = labelled(labels, rows)?;
                enough(rows, *per_client, clients, "partition.per_client shards of one row each")?;
                Parts::from_lists(shards(labels, *per_client, clients, &mut chance))
            }
            Self::Key { column } => by_key(&keyed(column, keys, rows)?, clients, &mut chance),
            Self::Files => by_key(&keyed("", keys, rows)?, clients, &mut chance),
            Self::Reused { of, parts } => {
                let most = match &**of {
                    Self::Iid | Self::Reused { .. } => rows,
                    Self::Dirichlet { min, .. } => rows / (*min).max(1),
                    Self::Shards { per_client } => rows / (*per_client).max(1),
                    Self::Key { column } => keyed(column, keys, rows)?.len() as u32,
                    Self::Files => keyed("", keys, rows)?.len() as u32,
                };
                let wanted = parts.unwrap_or(most.max(1));
                if wanted == 0 || wanted > most {
                    let problem = format!("{wanted} parts can't be made of {rows} rows");
                    return Err(PopulationError::new(
                        "partition.parts",
                        problem,
                        format!("use 1 to {most}, or more rows"),
                    ));
                }
                let made = clients.min(wanted);
                let mut split = of.split(rows, labels, keys, made, seed)?;
                if made < clients {
                    let note = format!("rows are reused: client i has part i modulo {made} of {made} parts, among {clients} clients");
                    split.notes.push(note);
                    split.clients = clients;
                }
                Ok(split)
            }
        }
    }
}

/// Refuses more clients than rows are there for.
fn enough(rows: u32, each: u32, clients: u32, what: &str) -> Result<(), PopulationError> {
    let most = rows / each.max(1);
    if clients <= most {
        return Ok(());
    }
    let problem = format!("{clients} clients are more than {rows} rows make, with {what}: some would be empty");
    let fix = format!("use at most {most} clients, more rows, or `reuse = true` in [partition]");
    Err(PopulationError::new("clients", problem, fix))
}

fn labelled(labels: Option<&[u32]>, rows: u32) -> Result<&[u32], PopulationError> {
    let Some(labels) = labels else {
        let fix = "use a job with classes, or kind = \"iid\"";
        return Err(PopulationError::new("partition.kind", "needs labels, and the data has none", fix));
    };
    if labels.len() == rows as usize {
        return Ok(labels);
    }
    let problem = format!("{} labels are not those of {rows} rows", labels.len());
    Err(PopulationError::new("partition.kind", problem, "give each row one label"))
}

/// The rows of each key, by its name. `column` is empty for files.
fn keyed<'k>(column: &str, keys: Option<&'k [String]>, rows: u32) -> Result<BTreeMap<&'k str, Vec<u32>>, PopulationError> {
    let field = if column.is_empty() { "partition.kind" } else { "partition.column" };
    let wrong = |problem: String, fix: &str| PopulationError::new(field, problem, fix);
    let Some(keys) = keys else {
        return Err(if column.is_empty() {
            wrong(
                "\"files\" needs one file a client".to_owned(),
                "give a folder with one file a client",
            )
        } else {
            wrong(format!("the data has no column {column:?}"), "name a column of the data")
        });
    };
    if keys.len() != rows as usize {
        let problem = format!("{} keys are not those of {rows} rows", keys.len());
        return Err(wrong(problem, "give each row one key"));
    }
    let mut by_key = BTreeMap::<&str, Vec<u32>>::new();
    for (row, key) in (0_u32..).zip(keys) {
        if key.trim().is_empty() {
            let problem = format!("row {row}, counted from 0, has an empty key");
            return Err(wrong(problem, "fill it in, or leave the row out"));
        }
        by_key.entry(key).or_default().push(row);
    }
    Ok(by_key)
}

fn by_key(by_key: &BTreeMap<&str, Vec<u32>>, clients: u32, chance: &mut Chance) -> Result<Parts, PopulationError> {
    let found = by_key.len();
    if clients as usize > found {
        let problem = format!("{clients} clients are more than the {found} keys of the data");
        let fix = format!("use at most {found} clients, or `reuse = true` in [partition]");
        return Err(PopulationError::new("clients", problem, fix));
    }
    let mut drawn: Vec<usize> = (0..found).collect();
    chance.shuffle(&mut drawn);
    drawn.truncate(clients as usize);
    drawn.sort_unstable();
    let lists: Vec<&Vec<u32>> = by_key.values().collect();
    let mut parts = Parts::from_lists(drawn.into_iter().map(|at| lists[at]))?;
    if (clients as usize) < found {
        let rows: usize = lists.iter().map(|list| list.len()).sum();
        let left = rows - parts.rows.len();
        let note = format!("{clients} of {found} keys were drawn, by the seed; {left} of {rows} rows are not used");
        parts.notes.push(note);
    }
    Ok(parts)
}

fn shards(labels: &[u32], per_client: u32, clients: u32, chance: &mut Chance) -> impl Iterator<Item = Vec<u32>> {
    let mut order: Vec<u32> = (0..labels.len() as u32).collect();
    order.sort_by_key(|row| labels[*row as usize]);
    // In range: there are at least as many rows.
    let mut dealt: Vec<_> = cut(order.len(), clients * per_client).collect();
    chance.shuffle(&mut dealt);
    let hands: Vec<Vec<std::ops::Range<usize>>> = dealt.chunks(per_client as usize).map(<[_]>::to_vec).collect();
    hands.into_iter().map(move |hand| {
        let mut rows: Vec<u32> = hand.into_iter().flat_map(|shard| order[shard].to_vec()).collect();
        rows.sort_unstable();
        rows
    })
}

/// `0..rows` in `parts` stretches of equal length, the first ones a row longer where there is a remainder.
fn cut(rows: usize, parts: u32) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (each, longer) = (rows / parts as usize, rows % parts as usize);
    (0..parts as usize).map(move |part| {
        let begin = part * each + part.min(longer);
        begin..begin + each + usize::from(part < longer)
    })
}

fn sorted(rows: &[u32]) -> Vec<u32> {
    let mut rows = rows.to_vec();
    rows.sort_unstable();
    rows
}
