package natsstore

// UseCores names the voters' client addresses anew: who is asked about the group, and where the connection
// goes the next time that it has to be made. The present one stays, as long as its server does.
func (s *Store) UseCores(urls []string) error {
	if s.core == nil {
		return errNotConfigured
	}
	s.coreURLs.Store(&urls)
	return s.core.nc.SetServerPool(urls)
}

// cores are the voters' client addresses, as last named.
func (s *Store) cores() []string {
	if urls := s.coreURLs.Load(); urls != nil {
		return *urls
	}
	return s.cfg.CoreURLs
}
