package natsstore

// UseCores names the voters' client addresses anew: where the connection goes the next time that it has to be
// made. The present one stays, as long as its server does.
func (s *Store) UseCores(urls []string) error {
	if s.core == nil {
		return errNotConfigured
	}
	return s.core.nc.SetServerPool(urls)
}
