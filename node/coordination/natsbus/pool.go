package natsbus

import "slices"

// UseCores names the voters' client addresses anew: where the connection goes. One to a server that is none of
// them moves at once, before that server ends.
func (w *Wire) UseCores(urls []string) error {
	nc := w.link.nc
	if err := nc.SetServerPool(urls); err != nil {
		return err
	}
	if at := nc.ConnectedUrl(); at != "" && !slices.Contains(urls, at) {
		return nc.ForceReconnect()
	}
	return nil
}
