// Enforces the NetworkPolicies of a cluster for the pods of one node: kube-network-policies, as a program of the
// node rather than a pod of it, and with an answer to whether it works.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"

	"github.com/florianl/go-nfqueue"
	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"
)

const (
	queue = 100
	table = "network-policies"
	needs = "this kernel cannot ask a program about packets: it needs NF_TABLES, NFT_COMPAT, " +
		"NETFILTER_XT_TARGET_NFQUEUE and NETFILTER_NETLINK_QUEUE (modules nft_compat, xt_NFQUEUE, nfnetlink_queue)"
)

func main() {
	kubeconfig := flag.String("kubeconfig", "", "how to reach the API server")
	node := flag.String("node", "", "name of the node")
	address := flag.String("address", "127.0.0.1:10258", "where /livez answers")
	check := flag.Bool("check", false, "only find out whether the kernel can")
	flag.Parse()
	err := tryQueue()
	if err != nil {
		err = fmt.Errorf("%s: %w", needs, err)
	} else if !*check {
		err = run(*kubeconfig, *node, *address)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(kubeconfig, node, address string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	config.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	found := informers.NewSharedInformerFactory(client, 0)
	found.InformerFor(&corev1.Pod{}, watchPods(node))
	controller, err := networkpolicy.NewController(
		client,
		found.Networking().V1().NetworkPolicies(),
		found.Core().V1().Namespaces(),
		found.Core().V1().Pods(),
		nil, nil, nil, nil,
		networkpolicy.Config{QueueID: queue, NodeName: node, NFTableName: table, NetfilterBug1766Fix: true},
	)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	found.Start(ctx.Done())
	ended := make(chan error, 2)
	http.HandleFunc("/livez", answer)
	go func() { ended <- http.ListenAndServe(address, nil) }()
	go func() { ended <- controller.Run(ctx) }()
	klog.InfoS("Started", "node", node)
	return <-ended
}

// answer tells whether packets are queued, and somebody takes them from the queue.
func answer(w http.ResponseWriter, _ *http.Request) {
	if err := works(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func works() error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	rules, err := nft.GetRules(
		&nftables.Table{Name: table, Family: nftables.TableFamilyINet}, &nftables.Chain{Name: "postrouting"})
	if err != nil {
		return err
	}
	if len(rules) == 0 {
		return errors.New("no packet is queued")
	}
	file, err := os.Open("/proc/self/net/netfilter/nfnetlink_queue")
	if err != nil {
		return err
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if fields := strings.Fields(lines.Text()); len(fields) > 1 && fields[0] == strconv.Itoa(queue) {
			return nil
		}
	}
	return errors.New("nobody takes packets from the queue")
}

// tryQueue makes a rule like the controller's, which would only log what the kernel says to it, and a queue.
func tryQueue() error {
	nft, err := nftables.New()
	if err != nil {
		return err
	}
	// The controller's is of the last family; by that of the first the kernel finds the module that it has to load.
	for _, family := range []nftables.TableFamily{nftables.TableFamilyIPv4, nftables.TableFamilyINet} {
		trial := nft.AddTable(&nftables.Table{Name: table + "-trial", Family: family})
		chain := nft.AddChain(&nftables.Chain{Name: "trial", Table: trial})
		nft.AddRule(&nftables.Rule{Table: trial, Chain: chain, Exprs: []expr.Any{&expr.Queue{Num: queue}}})
		if err := nft.Flush(); err != nil {
			return err
		}
		nft.DelTable(trial)
		if err := nft.Flush(); err != nil {
			return err
		}
	}
	taken, err := nfqueue.Open(&nfqueue.Config{NfQueue: queue})
	if err != nil {
		return err
	}
	defer taken.Close()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	return taken.RegisterWithErrorFunc(ctx,
		func(nfqueue.Attribute) int { return 0 }, func(error) int { return 1 })
}
