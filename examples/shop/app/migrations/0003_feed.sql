-- Wakes the live feeds of every instance when an order is committed, whoever took it.
CREATE FUNCTION announce_order() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orders', '');
    RETURN NULL;
END $$;

CREATE TRIGGER announce_order AFTER INSERT ON orders
    FOR EACH STATEMENT EXECUTE FUNCTION announce_order();
