package natsconf

// user is one nkey user as the template prints it. Nil lists allow everything.
type user struct {
	Comment   string
	Nkey      string
	Type      string // the connection types it may use: STANDARD or LEAFNODE
	Publish   []string
	Subscribe []string
}

// coreUsers returns the users of one account of the core, machine by machine.
func coreUsers(account string, machines []Machine, generation uint64) []user {
	var out []user
	for _, m := range machines {
		for _, u := range machineUsers(account, m, generation) {
			if u.Nkey != "" {
				out = append(out, u)
			}
		}
	}
	return out
}

func machineUsers(account string, m Machine, generation uint64) []user {
	switch account {
	case AccountStore:
		return []user{
			leafStoreUser(m, generation),
			{Comment: m.ID + " coordinator", Nkey: m.Keys[RoleCoordinator], Type: "STANDARD"},
		}
	case AccountBus:
		return []user{leafBusUser(m), coordinatorBusUser(m)}
	default:
		return []user{{Comment: m.ID + " system", Nkey: m.Keys[RoleSystem], Type: "STANDARD"}}
	}
}

// leafStoreUser bounds what a stolen edge key can do: read every fact, and write none.
// $JS.FC is not an extra: without it the mirror stalls in silence when flow control sets in.
func leafStoreUser(m Machine, generation uint64) user {
	var publish []string
	for _, stream := range []string{FactsStream(generation), LedgerStream(generation)} {
		api := "$JS." + CoreDomain + ".API."
		publish = append(publish,
			api+"CONSUMER.CREATE."+stream, api+"CONSUMER.CREATE."+stream+".>",
			api+"STREAM.INFO."+stream, api+"STREAM.MSG.GET."+stream,
			api+"DIRECT.GET."+stream, api+"DIRECT.GET."+stream+".>",
			"$JS.FC."+stream+".>",
		)
	}
	return user{
		Comment: m.ID + " edge", Nkey: m.Keys[RoleEdge], Type: "LEAFNODE", Publish: publish,
		Subscribe: []string{MirrorDeliver(m.ID) + ".>", Inbox(m.ID) + ".>", "$JSC.R.>"},
	}
}

func leafBusUser(m Machine) user {
	return user{
		Comment: m.ID + " edge", Nkey: m.Keys[RoleEdgeBus], Type: "LEAFNODE",
		Publish:   []string{"_INBOX.>"},
		Subscribe: []string{CommandSubject(m.ID) + ">", CommandAll + ">", Inbox(m.ID) + ".>"},
	}
}

func coordinatorBusUser(m Machine) user {
	return user{
		Comment: m.ID + " coordinator", Nkey: m.Keys[RoleCoordinatorBus], Type: "STANDARD",
		Publish: []string{"cmd.>"}, Subscribe: []string{Inbox(m.ID) + ".>"},
	}
}

// edgeUsers returns the users of one account of an edge.
func edgeUsers(account string, e Edge) []user {
	var all []user
	switch account {
	case AccountStore:
		all = []user{
			{Comment: "ployzd", Nkey: e.Keys[RoleLocal]},
			readerUser(RoleGateway, e), readerUser(RoleDNS, e),
		}
	case AccountBus:
		all = []user{{Comment: "ployzd", Nkey: e.Keys[RoleLocalBus]}}
	default:
		all = []user{{Comment: "ployzd", Nkey: e.Keys[RoleLocalSystem]}}
	}
	var out []user
	for _, u := range all {
		if u.Type = "STANDARD"; u.Nkey != "" {
			out = append(out, u)
		}
	}
	return out
}

// readerUser may follow the local mirror of facts and do nothing else.
func readerUser(role Role, e Edge) user {
	stream := FactsStream(e.Generation)
	api := "$JS.API."
	return user{
		Comment: string(role), Nkey: e.Keys[role],
		Publish: []string{
			api + "STREAM.INFO." + stream, api + "DIRECT.GET." + stream, api + "DIRECT.GET." + stream + ".>",
			api + "CONSUMER.CREATE." + stream, api + "CONSUMER.CREATE." + stream + ".>",
			api + "CONSUMER.INFO." + stream + ".*", api + "CONSUMER.DELETE." + stream + ".*",
			api + "CONSUMER.MSG.NEXT." + stream + ".*", "$JS.FC." + stream + ".>",
			MirrorQuestion(stream),
		},
		Subscribe: []string{Inbox(string(role)) + ".>"},
	}
}
