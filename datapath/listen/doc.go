// Package listen gives a serving process its sockets and replaces the process without losing
// a request. The gateway and the resolver use it the same way.
//
// Sockets come from systemd socket units (LISTEN_FDS, FileDescriptorName=), from a predecessor
// that hands over, or, where neither has one of that name, are bound here. The package holds
// one descriptor of each for the life of the process, so that a listener may be closed and
// asked for again, and so that everything can be handed on.
//
// A main reads like this:
//
//	sockets, err := listen.Inherit()                        // nil error with no socket: not activated
//	web, err := sockets.Listen("http", "tcp", ":80")        // inherited by name, else bound
//	udp, err := sockets.ListenPacket("dns-udp", "udp", "127.0.0.55:53")
//	life := listen.NewLife(sockets, log)                    // takes SIGHUP, SIGTERM and SIGINT from here on
//	go server.Serve(web)
//	life.Ready("serving")                                   // systemd (READY=1), or the waiting predecessor
//	ending := life.Wait(ctx)                                // blocks; see Ending
//	if ending.HandedOver() { sockets.Close() }              // the successor alone decides about them now
//	server.Drain(...)                                       // stop accepting, answer what is in flight, return
//
// The two ways a process is replaced:
//
//	systemctl restart: SIGTERM. Wait returns a Stopped ending. Socket units keep the sockets
//	    open, new connections wait in the kernel's queue until the next process accepts.
//	systemctl reload: SIGHUP, "ExecReload=/bin/kill -HUP $MAINPID". Life starts the program
//	    found at the same path with the same arguments and sockets, waits until it called
//	    Ready, tells systemd MAINPID=, and Wait returns a HandedOver ending: both processes
//	    accept from then on, so the old one must stop accepting and drain, for as long as it
//	    likes. If the successor exits or is not ready in time, it is ended, the failure is
//	    logged and put in the unit's status, and this process serves on as if nothing happened.
//
// The unit needs Type=notify and NotifyAccess=all. FileDescriptorName= holds for a whole socket
// unit: sockets that need different names need different socket units with the same Service=.
//
// A datagram socket that two processes read gives each datagram to one of them, so a resolver
// that drains must stop reading first (SetReadDeadline in the past) and then answer what it has
// read. Closing a socket got from here never closes it for the other process.
//
// The package needs Linux. It must never change a descriptor to blocking mode: the flag belongs
// to the socket, not to the process, and would block the accept loop of the process next door.
package listen
