package main

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// One file for each address of a pod of this node, with the id of the pod's sandbox.
	leases = "/run/pod-addresses/pods"
	// One folder for each container, with its configuration.
	bundles = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
	often   = 50 * time.Millisecond
)

// watchPods makes an informer of pods that knows the addresses of this node's own before the API server does, which
// a kubelet tells them up to a second after containers have begun: until then they could reach what they like.
func watchPods(node string) func(kubernetes.Interface, time.Duration) cache.SharedIndexInformer {
	return func(client kubernetes.Interface, _ time.Duration) cache.SharedIndexInformer {
		pods := client.CoreV1().Pods("")
		source := &cache.ListWatch{
			ListFunc: func(options metav1.ListOptions) (runtime.Object, error) {
				return pods.List(context.Background(), options)
			},
			WatchFunc: func(options metav1.ListOptions) (watch.Interface, error) {
				found, err := pods.Watch(context.Background(), options)
				if err != nil {
					return nil, err
				}
				events := make(chan watch.Event)
				proxy := watch.NewProxyWatcher(events)
				go addAddresses(node, found, events, proxy.StopChan())
				return proxy, nil
			},
		}
		byNamespace := cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}
		return cache.NewSharedIndexInformer(source, &corev1.Pod{}, 0, byNamespace)
	}
}

// addAddresses passes events on, and adds one for each pod whose address is found.
func addAddresses(node string, source watch.Interface, events chan<- watch.Event, stop <-chan struct{}) {
	defer close(events)
	defer source.Stop()
	waiting, known := map[string]*corev1.Pod{}, map[string]string{}
	look := time.NewTicker(often)
	defer look.Stop()
	send := func(event watch.Event) bool {
		select {
		case events <- event:
			return true
		case <-stop:
			return false
		}
	}
	for {
		select {
		case <-stop:
			return
		case event, more := <-source.ResultChan():
			if !more {
				return
			}
			if pod, is := event.Object.(*corev1.Pod); is {
				name := pod.Namespace + "/" + pod.Name
				delete(waiting, name)
				lacks := pod.Spec.NodeName == node && !pod.Spec.HostNetwork && len(pod.Status.PodIPs) == 0
				if lacks && event.Type != watch.Deleted && pod.Status.Phase == corev1.PodPending {
					waiting[name] = pod.DeepCopy()
				}
			}
			if !send(event) {
				return
			}
		case <-look.C:
			if len(waiting) == 0 {
				continue
			}
			for address, name := range leased(known) {
				pod, is := waiting[name]
				if !is {
					continue
				}
				delete(waiting, name)
				pod.Status.PodIP, pod.Status.PodIPs = address, []corev1.PodIP{{IP: address}}
				if !send(watch.Event{Type: watch.Modified, Object: pod}) {
					return
				}
			}
		}
	}
}

// leased tells which pod of this node has which address; known are names of pods by the ids of their sandboxes.
func leased(known map[string]string) map[string]string {
	found := map[string]string{}
	files, _ := filepath.Glob(filepath.Join(leases, "*.*.*.*"))
	for _, file := range files {
		content, err := os.ReadFile(file)
		words := strings.Fields(string(content))
		if err != nil || len(words) == 0 {
			continue
		}
		if known[words[0]] == "" {
			known[words[0]] = podOf(words[0])
		}
		if known[words[0]] != "" {
			found[filepath.Base(file)] = known[words[0]]
		}
	}
	return found
}

// podOf names the pod of a sandbox; empty where there is no such sandbox yet.
func podOf(sandbox string) string {
	content, err := os.ReadFile(filepath.Join(bundles, sandbox, "config.json"))
	var found struct{ Annotations map[string]string }
	if err != nil || json.Unmarshal(content, &found) != nil {
		return ""
	}
	namespace := found.Annotations["io.kubernetes.cri.sandbox-namespace"]
	name := found.Annotations["io.kubernetes.cri.sandbox-name"]
	if namespace == "" || name == "" {
		return ""
	}
	return namespace + "/" + name
}
