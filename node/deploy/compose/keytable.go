package compose

import "slices"

func yes(path, note string) Key  { return Key{Path: path, Verdict: Supported, Note: note} }
func idle(path, note string) Key { return Key{Path: path, Verdict: Harmless, Note: note} }
func refused(path, why, instead string) Key {
	return Key{Path: path, Verdict: Refused, Note: why, Instead: instead}
}

// under puts a prefix before the path of each key.
func under(prefix string, keys ...Key) []Key {
	for i := range keys {
		keys[i].Path = prefix + keys[i].Path
	}
	return keys
}

const (
	noBind       = "a folder of one machine is not on the others"
	noVolumes    = "a volume for what is written, secrets and configs for files, tmpfs for scratch space"
	oneNetwork   = "the services of a namespace share one network, and namespaces are kept apart"
	noNetworks   = "take the key away; what must not meet goes into different namespaces, see x-ployz.exports"
	theMachines  = "it belongs to the machine, which is shared by all its workloads"
	noGPU        = "GPUs cannot be passed in yet"
	ownNamespace = "every instance has kernel namespaces of its own"
	useSecrets   = "file, environment or external: true"
)

// topKeys are those of the file itself.
func topKeys() []Key {
	return []Key{
		yes("name", "the namespace; without it, the folder's name"),
		yes("services", ""),
		yes("services.*", "the service's name: lower-case letters, digits and dashes, at most 24"),
		idle("version", "Compose itself does not read it any more"),
		yes("secrets", "read on the operator's machine and sealed; only those that an active service names"),
		yes("secrets.*", ""),
		yes("secrets.*.file", ""),
		yes("secrets.*.environment", ""),
		yes("secrets.*.external", "made with `ployzctl secret set`"),
		refused("secrets.*.external.name", "this form is obsolete", "name: NAME beside external: true"),
		yes("secrets.*.name", "the stored name; without it, the key"),
		refused("secrets.*.driver", "there is one store for secrets", useSecrets),
		refused("secrets.*.driver_opts", "there is one store for secrets", useSecrets),
		refused("secrets.*.template_driver", "contents are taken as they are", useSecrets),
		refused("secrets.*.labels", "only services have labels", ""),
		yes("configs", "read on the operator's machine; only those that an active service names"),
		yes("configs.*", ""),
		yes("configs.*.file", ""),
		yes("configs.*.content", ""),
		yes("configs.*.environment", ""),
		yes("configs.*.external", "made with `ployzctl config set`"),
		refused("configs.*.external.name", "this form is obsolete", "name: NAME beside external: true"),
		yes("configs.*.name", "the stored name; without it, the key"),
		refused("configs.*.template_driver", "contents are taken as they are", "content: with ${VARIABLES}, filled in on the operator's machine"),
		refused("configs.*.labels", "only services have labels", ""),
		yes("networks", "only `default`, without settings"),
		yes("networks.default", ""),
		refused("networks.default.*", oneNetwork, noNetworks),
		refused("networks.*", oneNetwork, noNetworks),
		yes("volumes", "they outlive the instances; a new one is empty: nothing of the image is copied into it"),
		yes("volumes.*", "its name: letters, digits, - and _ between them, at most 48"),
		refused("volumes.*.name", "a volume is called as its key, in its namespace", "take name away"),
		yes("volumes.*.driver", "only local: each machine keeps volumes in its own pool"),
		refused("volumes.*.driver_opts", "each machine keeps volumes in its own pool", "x-ployz with size, owner, mode or scope"),
		refused("volumes.*.external", "a volume is its namespace's own, and made by the deploy that first mounts it", "take external away"),
		refused("volumes.*.labels", "only services have labels", ""),
		refused("include", "one file is one namespace", "give more files (ployzctl deploy -f A -f B), or use extends"),
		refused("models", "there is no runner for models", "run it as a service"),
		refused("jobs", "scheduled jobs are not part of a deploy", "a service with x-ployz.job: before or after"),
	}
}

// serviceKeys are the supported and harmless ones of a service.
func serviceKeys() []Key {
	return under("services.*.", slices.Concat(startKeys(), readyKeys(), fileKeys(), limitKeys(), otherKeys())...)
}

// startKeys say what runs, and when.
func startKeys() []Key {
	return []Key{
		yes("image", "required; resolved to a digest when the deploy is planned"),
		yes("command", ""),
		yes("entrypoint", ""),
		yes("environment", "NAME without a value takes the caller's, and is left out when that is not set"),
		yes("env_file", ""),
		yes("env_file[]", ""),
		yes("env_file[].path", ""),
		yes("env_file[].required", ""),
		refused("env_file[].format", "there is one format, Compose's own", "single quotes around what is to be taken as it is"),
		yes("working_dir", ""),
		yes("user", "names are looked up in the image"),
		yes("hostname", ""),
		yes("extra_hosts", "one address for each name; not host-gateway"),
		yes("stop_signal", ""),
		yes("stop_grace_period", "10s without it"),
		yes("restart", "without it: always, and for jobs no; unless-stopped means always"),
		yes("depends_on", "orders the start"),
		yes("depends_on.*", ""),
		yes("depends_on.*.condition", "all three; service_healthy means ready; a service waited for with service_completed_successfully is a job"),
		yes("depends_on.*.required", "false: left out when that service is not part of the deploy"),
		yes("depends_on.*.restart", "only false: a deploy of one service does not restart another"),
	}
}

// readyKeys say when an instance serves, and where.
func readyKeys() []Key {
	return []Key{
		yes("healthcheck", "decides when an instance is ready and may serve; x-ployz.ready outranks it"),
		yes("healthcheck.test", "CMD, CMD-SHELL or NONE"),
		yes("healthcheck.disable", ""),
		yes("healthcheck.interval", "30s without it; while starting it is asked every start_interval, else every interval or 500ms, whichever is shorter"),
		yes("healthcheck.start_interval", ""),
		yes("healthcheck.timeout", "of one try; 30s without it"),
		yes("healthcheck.retries", "3 without it; to become ready it has start_period + retries x interval, at least 60s"),
		yes("healthcheck.start_period", ""),
		yes("ports", "on the machine where the instance runs, whatever the mode; the published port must be given"),
		yes("ports[]", "ranges of equal length are expanded"),
		yes("ports[].target", ""),
		yes("ports[].published", "one port"),
		yes("ports[].host_ip", ""),
		yes("ports[].protocol", "tcp or udp"),
		yes("ports[].mode", "host or ingress, to the same effect"),
		idle("ports[].name", "it is only a remark"),
		idle("ports[].app_protocol", "it is only a remark; routes have x-ployz.routes[].protocol"),
		idle("expose", "the services of a namespace reach each other on every port"),
	}
}

// fileKeys put files into an instance.
func fileKeys() []Key {
	return []Key{
		yes("secrets", "default: /run/secrets/NAME, mode 0444"),
		yes("secrets[]", ""),
		yes("secrets[].source", ""),
		yes("secrets[].target", ""),
		yes("secrets[].uid", "a number"),
		yes("secrets[].gid", "a number"),
		yes("secrets[].mode", "octal, such as 0440"),
		yes("configs", "default: /NAME, mode 0444"),
		yes("configs[]", ""),
		yes("configs[].source", ""),
		yes("configs[].target", ""),
		yes("configs[].uid", "a number"),
		yes("configs[].gid", "a number"),
		yes("configs[].mode", "octal, such as 0440"),
		yes("tmpfs", "options size= and mode="),
		yes("volumes", "a service that writes one is updated stop-first"),
		yes("volumes[]", "NAME:TARGET[:ro], or the keys below"),
		yes("volumes[].type", "volume or tmpfs"),
		yes("volumes[].source", "a key of the file's volumes"),
		yes("volumes[].target", ""),
		yes("volumes[].read_only", "of a volume"),
		yes("volumes[].tmpfs", ""),
		yes("volumes[].tmpfs.size", ""),
		yes("volumes[].tmpfs.mode", "octal, such as 01777"),
		yes("volumes[].volume", ""),
		idle("volumes[].volume.nocopy", "nothing is copied out of the image anyway"),
		refused("volumes[].volume.subpath", "a volume is mounted as a whole", "a volume for each part"),
		refused("volumes[].volume.labels", "only services have labels", ""),
		refused("volumes[].consistency", "it is for other systems than Linux", ""),
		refused("volumes[].bind", noBind, noVolumes),
		refused("volumes[].image", "images are not mounted", "put the files into the service's own image"),
	}
}

// limitKeys are what an instance may do and use.
func limitKeys() []Key {
	return []Key{
		yes("cap_add", ""),
		yes("cap_drop", ""),
		yes("read_only", "the root file system"),
		yes("devices", "SOURCE[:TARGET[:rwm]]"),
		yes("devices[]", ""),
		yes("devices[].source", ""),
		yes("devices[].target", ""),
		yes("devices[].permissions", ""),
		yes("ulimits", ""),
		yes("ulimits.*", ""),
		yes("ulimits.*.soft", ""),
		yes("ulimits.*.hard", ""),
		yes("sysctls", "those of the instance's own namespaces"),
		yes("init", ""),
		yes("security_opt", "no-new-privileges[:false] (on without it) and seccomp=unconfined"),
		yes("privileged", "only false: name what is needed with cap_add and devices"),
		yes("shm_size", "the size of /dev/shm"),
		yes("cpus", ""),
		yes("mem_limit", ""),
		yes("mem_reservation", "counts at placement"),
		yes("pids_limit", ""),
		yes("blkio_config", ""),
		yes("blkio_config.weight", "10 to 1000, where 500 is systemd's IOWeight=100"),
	}
}

// otherKeys are the rest.
func otherKeys() []Key {
	return []Key{
		yes("labels", ""),
		yes("label_file", ""),
		yes("networks", "only `default`, without settings"),
		yes("networks.default", ""),
		refused("networks.default.*", oneNetwork, noNetworks),
		refused("networks.*", oneNetwork, noNetworks),
		yes("logging", "only the journal"),
		yes("logging.driver", "only journald, which is what is used anyway"),
		refused("logging.options", "logs go to the machine's journal", "take logging away; read with: ployzctl logs NAMESPACE/SERVICE"),
		yes("profiles", "a service whose profiles are not active is left out"),
		yes("extends", "of the same file or another"),
		yes("extends.service", ""),
		yes("extends.file", ""),
		yes("pull_policy", "missing or if_not_present, which is what happens anyway"),
		yes("runtime", "only runc"),
		yes("scale", "as deploy.replicas"),
		yes("tty", "only false"),
		yes("stdin_open", "only false"),
		idle("container_name", "instances are named by their slots, such as web-0; services find each other by the service's name"),
		idle("attach", "a deploy is never attached to; logs: ployzctl logs"),
		idle("develop", "it is for work on the source"),
	}
}

// deployKeys are those of services.*.deploy.
func deployKeys() []Key {
	swarm := "a deploy replaces all instances of a service at one moment, the commit"
	return append([]Key{yes("services.*.deploy", "")}, under("services.*.deploy.",
		yes("mode", "replicated or global"),
		yes("replicas", "0 keeps the service, stopped"),
		yes("labels", "added to the service's labels"),
		yes("endpoint_mode", "only dnsrr: a name stands for the instances' own addresses"),
		yes("update_config", ""),
		yes("update_config.order", "without it start-first: the new serves before the old stops; stop-first where a volume is written"),
		yes("update_config.parallelism", "only with start-first, where it makes no difference: new instances start beside the old"),
		yes("update_config.failure_action", "only rollback, which is what happens: a failed deploy leaves the old serving"),
		refused("update_config.delay", swarm, "x-ployz.update.drain, for connections that are still open"),
		refused("update_config.monitor", swarm, "a healthcheck or x-ployz.ready, which decides before the commit"),
		refused("update_config.max_failure_ratio", "one instance that does not get ready fails the deploy", ""),
		refused("rollback_config", "a rollback is a deploy and goes as one", "update_config.order"),
		yes("resources", ""),
		yes("resources.limits", ""),
		yes("resources.limits.cpus", ""),
		yes("resources.limits.memory", ""),
		yes("resources.limits.pids", ""),
		yes("resources.reservations", "count at placement"),
		yes("resources.reservations.cpus", ""),
		yes("resources.reservations.memory", ""),
		refused("resources.reservations.devices", noGPU, "devices, for what has a file in /dev"),
		refused("resources.reservations.generic_resources", "machines have no such resources", "x-ployz.placement"),
		yes("restart_policy", "outranks restart"),
		yes("restart_policy.condition", "any, on-failure or none"),
		yes("restart_policy.delay", ""),
		yes("restart_policy.max_attempts", ""),
		yes("restart_policy.window", ""),
		yes("placement", ""),
		yes("placement.constraints", "only node.hostname == MACHINE"),
		refused("placement.preferences", "instances are spread over zones and machines anyway", "x-ployz.placement to choose among them"),
		refused("placement.max_replicas_per_node", "instances are spread over machines as evenly as can be", "deploy.mode: global for one on each machine"),
	)...)
}

// refusedServiceKeys are those of a service that are not supported.
func refusedServiceKeys() []Key {
	cpu, memory := "CPU time is limited as a number of CPUs", "memory is limited as a number of bytes"
	dns := "names are answered by the cluster's own resolver, which asks the machine's for all others"
	hooks := "nothing runs beside an instance"
	return under("services.*.",
		refused("build", "images are not built here", "build the image and push it: ployzctl image push"),
		refused("network_mode", "every instance has a network namespace and addresses of its own", "ports to publish on the machine, x-ployz.routes for the gateway"),
		refused("links", "services find each other by name", "depends_on for the order; the service's name as the hostname"),
		refused("external_links", "services find each other by name", "x-ployz.exports in the other namespace; the name is SERVICE.NAMESPACE"),
		refused("dns", dns, "extra_hosts for single names"),
		refused("dns_opt", dns, ""),
		refused("dns_search", dns, "full names"),
		refused("domainname", "names end in the cluster's own domain", "hostname"),
		refused("mac_address", "addresses are given by the cluster", ""),
		refused("volumes_from", "a service says itself what it mounts", "volumes, with the same names"),
		refused("gpus", noGPU, "devices, for what has a file in /dev"),
		refused("device_cgroup_rules", "a rule without a device is of no use", "devices, whose permissions become the rules"),
		refused("cgroup", ownNamespace, ""),
		refused("cgroup_parent", "every instance has its own systemd unit", ""),
		refused("ipc", ownNamespace, ""),
		refused("pid", ownNamespace, ""),
		refused("uts", ownNamespace, "hostname"),
		refused("userns_mode", "user namespaces cannot be chosen yet", "user, to run as another than root"),
		refused("isolation", "it is for Windows", ""),
		refused("credential_spec", "it is for Windows", ""),
		refused("platform", "every machine takes the image's variant for its own architecture", "push an image with the variants your machines need"),
		refused("pull_refresh_after", "images are pulled by digest when a deploy needs them", "deploy again"),
		refused("group_add", "supplementary groups come from the image", "user: NAME, whose groups the image lists"),
		refused("umask", "it is the program's own business", "set it in the entrypoint"),
		refused("oom_kill_disable", theMachines, "mem_limit"),
		refused("oom_score_adj", theMachines, "mem_limit"),
		refused("cpu_count", cpu, "cpus"),
		refused("cpu_percent", cpu, "cpus"),
		refused("cpu_shares", cpu, "cpus"),
		refused("cpu_quota", cpu, "cpus: quota divided by period"),
		refused("cpu_period", cpu, "cpus: quota divided by period"),
		refused("cpu_rt_period", cpu, "cpus"),
		refused("cpu_rt_runtime", cpu, "cpus"),
		refused("cpuset", cpu, "cpus"),
		refused("mem_swappiness", memory, "mem_limit"),
		refused("memswap_limit", memory, "mem_limit"),
		refused("blkio_config.device_read_bps", theMachines, "blkio_config.weight"),
		refused("blkio_config.device_read_iops", theMachines, "blkio_config.weight"),
		refused("blkio_config.device_write_bps", theMachines, "blkio_config.weight"),
		refused("blkio_config.device_write_iops", theMachines, "blkio_config.weight"),
		refused("blkio_config.weight_device", theMachines, "blkio_config.weight"),
		refused("storage_opt", "an instance's own layer has no limit", "a volume with x-ployz.size"),
		refused("annotations", "an instance's OCI configuration is Ployz's own", "labels"),
		refused("models", "there is no runner for models", "run it as a service"),
		refused("provider", "services run from images only", ""),
		refused("use_api_socket", "there is no Docker engine whose socket could be passed in", ""),
		refused("pre_start", hooks, "a service with x-ployz.job: before"),
		refused("post_start", hooks, "a service with x-ployz.job: after"),
		refused("pre_stop", hooks, "stop_signal and stop_grace_period"),
	)
}

// ployzKeys are ours, and say what Compose cannot.
func ployzKeys() []Key {
	return append([]Key{
		yes("x-ployz", "what Compose cannot say of all together; more is under services.* and volumes.*"),
		yes("x-ployz.retention", "what ployzctl volume prune leaves of the past"),
		yes("x-ployz.retention.commits", "how many commits, the present one among them, can be gone back to with their data; 10 without it"),
		yes("x-ployz.retention.volumes", "how long a volume that lost its name is kept at least, such as 72h; 168h without it"),
		yes("volumes.*.x-ployz", "what Compose cannot say"),
		yes("volumes.*.x-ployz.size", "the most it may hold, such as 10g; no limit without it"),
		yes("volumes.*.x-ployz.owner", "UID or UID:GID of its root folder, by number"),
		yes("volumes.*.x-ployz.mode", "of its root folder, octal, such as 0750"),
		yes("volumes.*.x-ployz.scope", "namespace (without it: one, on one machine) or slot (one for each instance of a service, such as data.db-0)"),
		yes("services.*.x-ployz", "what Compose cannot say"),
	}, under("services.*.x-ployz.",
		yes("routes", "requests that reach any gateway"),
		yes("routes[]", "either host or tcp"),
		yes("routes[].host", "shop.example.org, or *.example.org"),
		yes("routes[].path", "a prefix; / without it"),
		yes("routes[].port", "the instance's port"),
		yes("routes[].tcp", "the gateway's port, for anything that is not HTTP"),
		yes("routes[].strip_prefix", "true takes path away before the request is passed on"),
		yes("routes[].protocol", "towards the instance: http (without it) or h2c"),
		yes("routes[].proxy_protocol", "v1 or v2, for tcp: the client's address goes ahead"),
		yes("routes[].redirect_https", "true answers plain HTTP with a redirect"),
		yes("ready", "when an instance may serve: exactly one of http, tcp and exec"),
		yes("ready.http", "any answer from 200 to 399"),
		yes("ready.http.path", "/ without it"),
		yes("ready.http.port", ""),
		yes("ready.http.host", ""),
		yes("ready.tcp", "a connection is accepted"),
		yes("ready.tcp.port", ""),
		yes("ready.exec", "a list of words, or one line for the shell; ready on status 0"),
		yes("ready.interval", "between two tries; the first are 20ms apart and then ever more, up to it"),
		yes("ready.try_timeout", "of one try; 2s without it"),
		yes("ready.timeout", "for becoming ready at all; 60s without it"),
		refused("ready.deadline", "it has another name", "timeout, which is the time for becoming ready; one try has try_timeout"),
		yes("job", "before or after: a one-shot run before the services switch over, or after the commit; or branch: in new branches only, on their copy of the data"),
		yes("job.when", "before, after or branch"),
		yes("job.deadline", "5m without it"),
		yes("needs", "services that must be ready first: depends_on with service_healthy, in short"),
		yes("exports", "namespaces that may find this service by name; \"*\" is all"),
		yes("placement", "where instances may run"),
		yes("placement.machines", ""),
		yes("placement.regions", ""),
		yes("placement.zones", ""),
		yes("update", ""),
		yes("update.order", "start-first (without it) or stop-first (without it where a volume is written)"),
		yes("update.drain", "how long open connections of the old may go on; 10s without it"),
		yes("quiesce", "how a service that writes volumes holds still while they are snapshot, see Volumes"),
		yes("quiesce.mode", "freeze, stop or none"),
		yes("quiesce.before", "runs inside first, a list of words or one line for the shell; any status but 0 refuses the snapshot"),
		yes("quiesce.after", "likewise, runs inside afterwards, also if before failed"),
		yes("quiesce.timeout", "of each of the two; 10s without it"),
		yes("secret_env", "VARIABLE: secret, for programs that read secrets from the environment"),
	)...)
}
