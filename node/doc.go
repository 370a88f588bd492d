// Package node is the map of the side that decides; it holds no code, only this page and the tests that keep
// it true (arch_test.go for who may import whom, house_test.go for the rest of the house's rules).
//
// # Depth is layer
//
//	node/X        kernel: policy, named after a domain
//	node/X/Y      backend: mechanics of that domain, named after a technology
//	node/X/Ytest  a suite that every backend of the domain runs, or something that breaks it on purpose
//
// node decides, datapath carries: what is under datapath goes on serving with ployzd dead, and has
// never heard of a deploy, an operator or the store.
//
// # The domains
//
//	api           what every surface speaks: requests, events, outcomes, errors, the table of codes
//	store         facts and the ledger: the contract and the whole key schema
//	coordination  leases with fences, and commands to machines, which hold them against those
//	operation     the form in which everything that changes the cluster is written and run
//	machine       what a membership is, and the operations on it
//	mesh          which peers a machine's overlay has, and where it looks for them
//	routing       from commits to the view that gateways and resolvers follow
//	runtime       what an instance is, and the contract for making it run
//	storage       the volumes of one machine, and the contract for a file system that keeps them
//	deploy        what an operator asks for in a namespace, made a commit
//	services      adopt-first supervision of what serves
//	daemon        ployzd: the surface, the dispatch, and in wire*.go alone the choice of every backend
//	sdk           a typed client of the surface
//	nodetest      whole machines, for tests
//
// # The import rule
//
// The kernel never imports a backend or datapath. A backend imports its own domain and api, and no
// other domain or backend. datapath never imports node, and metrics neither. Only the composition roots,
// node/daemon/wire*.go and the mains under cmd, import backends, and tell metrics what the parts counted. One package each owns netlink, nftables and the NATS client. Between
// domains only the edges in arch_test.go are allowed, each with its reason: a new one is a line
// that can be seen and argued about.
package node
