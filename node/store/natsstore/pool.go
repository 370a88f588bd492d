package natsstore

import "slices"

// UseCores names the voters' client addresses anew: who is asked about the group, and where the connection
// goes. One to a server that is none of them moves at once, before that server ends.
func (s *Store) UseCores(urls []string) error {
	if s.core == nil {
		return errNotConfigured
	}
	s.coreURLs.Store(&urls)
	at := s.core.nc.ConnectedUrl() // once the pool is set it says where the next connection goes
	if err := s.core.nc.SetServerPool(urls); err != nil {
		return err
	}
	if at != "" && !slices.Contains(urls, at) {
		return s.core.nc.ForceReconnect()
	}
	return nil
}

// cores are the voters' client addresses, as last named.
func (s *Store) cores() []string {
	if urls := s.coreURLs.Load(); urls != nil {
		return *urls
	}
	return s.cfg.CoreURLs
}
