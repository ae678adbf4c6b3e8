"""What the proxy before the engine's socket refuses, on a real engine (test_proxy.py) and without one (tests/docker_proxy)."""

from docker.types import DeviceRequest, DriverConfig, LogConfig, Mount

UNKNOWN = "0" * 64
PRIVILEGED = '"HostConfig": {"Privileged": true}'

# Options of a container, as arguments of the fixture `create`.
HARMFUL = [
    {"privileged": True},
    {"network": "host"},
    {"network": "bridge"},
    {"network": "container:other"},
    {"pid_mode": "host"},
    {"ipc_mode": "host"},
    {"uts_mode": "host"},
    {"userns_mode": "host"},
    {"cgroup_parent": "/"},
    {"cap_add": ["SYS_ADMIN"]},
    {"devices": ["/dev/mem"]},
    {"device_requests": [DeviceRequest(count=-1, capabilities=[["gpu"]])]},
    {"device_cgroup_rules": ["a *:* rwm"]},
    {"security_opt": ["seccomp=unconfined"]},
    {"sysctls": {"kernel.shmmax": "1"}},
    {"volumes_from": ["other"]},
    {"binds": ["/:/host"]},
    {"group_add": ["0"]},
    {"runtime": "runc"},
    {"oom_score_adj": -1000},
    {"port_bindings": {"80/tcp": 80}},
    {"log_config": LogConfig(type="syslog", config={"syslog-address": "tcp://elsewhere"})},
    {"image": "debian:bookworm-slim"},
    {"image": "elsewhere/windtunnel/airflow:1"},
    {"mounts": [Mount("/host", "/", type="bind")]},
    {"mounts": [Mount("/host", "/var/run/docker.sock", type="bind", read_only=True)]},
    {"mounts": [Mount("/secrets", "windtunnel_secrets")]},
    {"mounts": [Mount("/host", "v", driver_config=DriverConfig("local", {"type": "none", "o": "bind", "device": "/"}))]},
    {"options": {"user": "root"}},
    {"options": {"entrypoint": ["sh"]}},
]

# Bodies of a request to create a container: IMAGE and PROJECT stand for this project's.
SPELLINGS = [
    '{"Image": "IMAGE", "hostconfig": {"privileged": true}}',
    '{"Image": "IMAGE", "HostConfig": {"Priv\\u0069leged": true}}',
    '{"Image": "IMAGE", "HostConfig": {"Device\\u017f": [{"PathOnHost": "/dev/mem"}]}}',
    '{"Image": "IMAGE", "HostConfig": {"Memory": 0}, "HostConfig": {"Privileged" : true}}',
    '{"Image": "IMAGE", "Image": "debian"}',
    '{"Image": "IMAGE", "Cmd": ["\\\\"], "HostConfig": {"Privileged": true}, "Env": ["\\""]}',
    '{"Image": "IMAGE", "HostConfig": {"Mounts": [{"Type": "bind", "Source": "/", "Target": "/host"}]}}',
    '{"Image": "IMAGE", "HostConfig": {"NetworkMode": "PROJECT_tasks", "NetworkMode": "host"}}',
    '{"Image": "IMAGE"' + " " * 70_000 + f", {PRIVILEGED}}}",
    '{"Image": "IMAGE", "Cmd": [' + '"a", ' * 20_000 + f'"a"], {PRIVILEGED}}}',
]

# Requests, each with its method: PROJECT and FILTERS stand for the project and its label in a query.
UNNEEDED = [
    ("GET", "/v1.41/containers/json"),
    ("GET", "/v1.41/containers/json?all=1&filters=%7B%22label%22%3A+%5B%22windtunnel.project%3Dother%22%5D%7D"),
    ("GET", "/v1.41/containers/json?%66ilters=&FILTERS"),
    ("GET", "/v1.41/containers/json?filters=;FILTERS"),
    ("GET", "/v1.41/containers/json?FILTERS&filters=%7B%7D"),
    ("GET", "/v1.41/containers/PROJECT/json"),
    ("GET", "/v1.41/containers/PROJECT/logs?stdout=1"),
    ("POST", "/v1.41/containers/PROJECT/stop"),
    ("DELETE", "/v1.41/containers/PROJECT?force=1"),
    ("POST", f"/v1.41/containers/{UNKNOWN}/exec"),
    ("POST", f"/v1.41/containers/{UNKNOWN}/attach?stdin=1&stream=1"),
    ("PUT", f"/v1.41/containers/{UNKNOWN}/archive?path=/"),
    ("GET", f"/v1.41/containers/{UNKNOWN}/archive?path=/etc"),
    ("POST", f"/v1.41/containers/{UNKNOWN}/update"),
    ("POST", f"/v1.24/containers/{UNKNOWN}/start"),
    ("POST", f"/v1.23/containers/{UNKNOWN}/start"),
    ("POST", f"/containers/{UNKNOWN}/start"),
    ("POST", "/containers/create"),
    ("POST", "/v1.41/containers/prune"),
    ("POST", "/v1.41/images/create?fromImage=debian"),
    ("GET", "/v1.41/images/debian:bookworm-slim/json"),
    ("DELETE", "/v1.41/images/debian:bookworm-slim"),
    ("POST", "/v1.41/build"),
    ("POST", "/v1.41/volumes/create"),
    ("GET", "/v1.41/volumes"),
    ("GET", "/v1.41/networks"),
    ("POST", "/v1.41/swarm/init"),
    ("GET", "/v1.41/secrets"),
    ("GET", "/v1.41/services"),
    ("GET", "/v1.41/tasks"),
    ("GET", "/v1.41/events"),
    ("GET", "/v1.41/../v1.41/containers/json"),
    ("GET", "/metrics"),
]
