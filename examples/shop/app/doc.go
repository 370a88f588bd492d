// Command shop-app is the application of examples/shop: an order book over PostgreSQL.
//
//	shop-app [serve]       serves HTTP until SIGTERM
//	shop-app migrate       brings the schema up to date and ends; safe to repeat, also at once
//	shop-app mask          takes the customers' names out of the database, for a copy of it that others see
//	shop-app healthcheck   asks the instance on this machine whether it is ready; exit status 0 or 1
//	shop-app version       prints the version
//
// It is an application like any other and knows nothing of Ployz: it reads a configuration file,
// a password from a secret file, finds its database by a DNS name, logs JSON lines to standard
// output, says on /healthz whether it is ready, and stops gracefully. Several instances may serve
// one database. It keeps nothing in memory that matters; what it shows is what the database has.
package main
