-- A row grows by half from the order's first event to its last, and its page has to hold all of them then, and the
-- versions between two prunings. Of 75 % each twentieth update left its page, and was a new entry of the key's index.
-- Pages that are full already stay as they are.
ALTER TABLE orders SET (fillfactor = 60);
