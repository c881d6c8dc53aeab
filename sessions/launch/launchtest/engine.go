package launchtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
)

// What an engine can be told, each as one argument after its port.
const (
	Slow     = "slow"     // it takes a second to serve
	Never    = "never"    // it never serves
	Dies     = "dies"     // it ends at once with exit status 3
	Taken    = "taken"    // it ends at once, as its port is taken
	Stubborn = "stubborn" // it ignores SIGTERM and SIGINT
	Forks    = "forks"    // it starts children, of which one leaves its process group
	Prints   = "prints"   // it prints its environment and then dies
)

// Engine is the whole of a program that a test launches: args are its port and
// how it behaves. It ends the process.
func Engine(args []string) {
	port, how := args[0], strings.Join(args[1:], " ")
	is := func(what string) bool { return strings.Contains(how, what) }
	fmt.Println("the engine starts with", how)
	switch {
	case is(Stubborn):
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	case is(Prints):
		fmt.Println(strings.Join(os.Environ(), "\n"))
		os.Exit(4)
	case is(Dies):
		fmt.Fprintln(os.Stderr, "Error: no such catalog")
		os.Exit(3)
	case is(Taken):
		fmt.Fprintln(os.Stderr, "bind: address already in use")
		os.Exit(1)
	case is(Never):
		select {}
	}
	if is(Slow) {
		time.Sleep(time.Second)
	}
	if is(Forks) {
		fork(false)
		fork(true)
	}
	serve(port)
}

// fork starts a child that lives for ever.
func fork(away bool) {
	cmd := exec.Command("/bin/sleep", "100000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: away}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	fmt.Println("child", cmd.Process.Pid)
}

func serve(port string) {
	ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, health.NewServer())
	_ = server.Serve(ln)
	select {}
}
