-- What is for sale. The stock can never go below zero: the database refuses it, whatever
-- the application believes.
CREATE TABLE products (
    sku         text    PRIMARY KEY,
    title       text    NOT NULL,
    price_cents integer NOT NULL CHECK (price_cents >= 0),
    stock       integer NOT NULL CHECK (stock >= 0),
    received    integer NOT NULL
);

INSERT INTO products (sku, title, price_cents, stock, received) VALUES
    ('kettle', 'Copper kettle',       4900, 100000, 100000),
    ('lamp',   'Reading lamp',        3250, 100000, 100000),
    ('stool',  'Three-legged stool',  2700, 100000, 100000),
    ('clock',  'Clock, one of a kind', 19900,     1,      1);
