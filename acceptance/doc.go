// Package acceptance tells the product as stories, testdata/stories/*.txtar,
// and runs them against the real programs in a lab of network namespaces.
//
// A story uses what a user has: the command lines, Terraform, the API and
// packets. Beside the commands of testscript it may say:
//
//	host NAME... [at NETWORK] [over STACK]
//	                                machines on the internet or behind a router;
//	                                STACK is ipv4, ipv6 or both (lab.Stack)
//	router NAME KIND [at NETWORK] [over STACK]
//	                                a router with a LAN; KIND is a lab.NAT
//	access NAME SIDE                the routers of a lab.Side
//	shape NAME HOST HOST            two machines and what is between them, a lab.Shape
//	forget ROUTER SECONDS           the router forgets a mapping so long after its
//	                                last datagram
//	gateway ROUTER PROTOCOL         the router forwards ports to who asks for it in
//	                                pcp, nat-pmp or upnp
//	block ROUTER tcp|udp            drop a protocol at a router; unblock ends it
//	rebind ROUTER                   its NAT forgets all connections and takes
//	                                other ports
//	cut HOST HOST [udp]             drop what two hosts or routers on the
//	                                internet send each other; mend ends it
//	serve HOST [FLAG...]            wattle-server up on HOST; sets $URL, $PIN,
//	                                $KEY (a file) and WATTLE_CREDENTIALS
//	daemon HOST... [FLAG...]        wattle daemon
//	join HOST...                    daemon, then wattle up; sets $HOST to the
//	                                overlay address, such as $alice
//	on HOST COMMAND...              run a command on a machine
//	start NAME on HOST COMMAND...   the same in the background
//	end NAME, crash NAME            end it with SIGTERM, or with SIGKILL
//	freeze NAME                     stop it (SIGSTOP); thaw goes on
//	restart NAME                    start it again as it was
//	exits CODE COMMAND...           on or api, ending with that code
//	eventually [-out RE] [!] COMMAND...
//	                                repeat on or api until it succeeds
//	                                and prints what RE matches; or (!) until
//	                                it fails
//	api METHOD PATH [BODY|@FILE]    call the management API; ! api expects a
//	                                status of 400 or more
//	field VAR PATH                  set $VAR from the JSON that was printed
//	                                last: name, 0, [name=Default]
//	places FILE NETWORK=COUNTRY...  write a geo database
//	flow NAME start HOST ADDR       ping every 20 ms; waits for an answer
//	flow NAME unbroken              everything sent until now is answered
//	flow NAME silent                waits until what is sent after the last api,
//	                                on, cut or block command is not answered
//	flow NAME resumed               waits for answers to what is sent after it
//	flow NAME stop                  end it
//
// A story tells what happens and in which order, never how fast: its waits have
// no bound that a slow machine could break, and make bench has the figures.
//
// Conditions: [terraform] when Terraform or OpenTofu is installed.
//
// The programs are built once, or taken from the folder WATTLE_BIN.
package acceptance
