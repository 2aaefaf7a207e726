//! A table whose rows are numbered, and whose numbers are used again.

/// Values by small numbers.
pub(crate) struct Slab<T> {
    rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { rows: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// Keeps a value; its number.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        if let Some(number) = self.free.pop() {
            self.rows[number as usize] = Some(value);
            return number;
        }
        self.rows.push(Some(value));
        u32::try_from(self.rows.len() - 1).expect("there is no room for four billion of them")
    }

    /// Keeps a value that wants to know its number.
    pub(crate) fn insert_with(&mut self, make: impl FnOnce(u32) -> T) -> T
    where
        T: Clone,
    {
        let value = make(self.next());
        self.insert(value.clone());
        value
    }

    /// The number that the next one gets.
    pub(crate) fn next(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.rows.len() as u32)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut T> {
        self.rows.get_mut(number as usize)?.as_mut()
    }

    pub(crate) fn remove(&mut self, number: u32) -> Option<T> {
        let value = self.rows.get_mut(number as usize)?.take()?;
        self.free.push(number);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        (0..).zip(&self.rows).filter_map(|(number, row)| Some((number, row.as_ref()?)))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        (0..).zip(&mut self.rows).filter_map(|(number, row)| Some((number, row.as_mut()?)))
    }

    /// Takes all of them.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        self.free.clear();
        std::mem::take(&mut self.rows).into_iter().flatten().collect()
    }
}
