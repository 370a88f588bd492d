package natsbus

// UseCores names the voters' client addresses anew: where the connection goes the next time that it has to be
// made.
func (w *Wire) UseCores(urls []string) error { return w.link.nc.SetServerPool(urls) }
