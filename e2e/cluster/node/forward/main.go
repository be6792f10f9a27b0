// forward FD ADDRESS accepts on an inherited listening socket and connects to ADDRESS.
//
// The socket was opened in the network namespace of the machine, this process runs in the node's: that is the whole
// bridge between the two.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) != 3 {
		log.Fatal("usage: forward FD ADDRESS")
	}
	fd, err := strconv.Atoi(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	listener, err := net.FileListener(os.NewFile(uintptr(fd), "listener"))
	if err != nil {
		log.Fatal(err)
	}
	for {
		from, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go carry(from.(*net.TCPConn), os.Args[2])
	}
}

func carry(from *net.TCPConn, address string) {
	defer from.Close()
	connection, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return
	}
	to := connection.(*net.TCPConn)
	defer to.Close()
	back := make(chan struct{})
	go func() {
		io.Copy(from, to)
		from.CloseWrite()
		close(back)
	}()
	io.Copy(to, from)
	to.CloseWrite()
	<-back
}
