package metrics

// Program is one that tells figures.
type Program string

// The programs.
const (
	Daemon   Program = "ployzd"
	Gateway  Program = "ployz-gateway"
	Resolver Program = "ployz-dns"
	Edge     Program = "ployz-nats edge"
	Core     Program = "ployz-nats core"
)

// Programs are all that tell figures, in the order of their ports.
func Programs() []Program { return []Program{Daemon, Gateway, Resolver, Edge, Core} }

// Ports on the overlay address.
const (
	daemonPort   = 7490
	gatewayPort  = 7491
	resolverPort = 7492
	edgePort     = 7493
	corePort     = 7494
)

// Port is where the program answers, the same on every machine.
func (p Program) Port() uint16 {
	switch p {
	case Daemon:
		return daemonPort
	case Gateway:
		return gatewayPort
	case Resolver:
		return resolverPort
	case Edge:
		return edgePort
	case Core:
		return corePort
	}
	return 0
}
