"""The job template against the restricted pod security standard of Kubernetes, field by field."""

import pytest
import yaml


@pytest.fixture
def objects(docker):
    return {item["kind"]: item for item in yaml.safe_load_all((docker / "kubernetes" / "job.yaml").read_text("utf-8"))}


@pytest.fixture
def pod(objects):
    return objects["Job"]["spec"]["template"]["spec"]


def test_the_pod_is_admitted_under_the_restricted_standard(pod):
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert all(set(volume) - {"name"} <= {"persistentVolumeClaim", "emptyDir", "configMap", "secret"} for volume in pod["volumes"])
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] != 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "privileged" not in context
        assert not [port for port in container.get("ports", []) if "hostPort" in port]


def test_the_container_writes_to_its_volumes_only_and_reads_the_images_only(pod):
    (container,) = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    mounts = {mount["name"]: mount for mount in container["volumeMounts"]}
    assert mounts["data"] == {"name": "data", "mountPath": "/data", "readOnly": True}
    assert set(mounts) == {volume["name"] for volume in pod["volumes"]}
    assert pod["automountServiceAccountToken"] is False


def test_the_job_asks_for_a_gpu_and_for_claims(pod, objects):
    (container,) = pod["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == "1"
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert claims == ["chestxray", objects["PersistentVolumeClaim"]["metadata"]["name"]]


def test_nothing_reaches_the_pod_and_the_pod_reaches_nothing(objects, pod):
    policy = objects["NetworkPolicy"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert not {"ingress", "egress"} & set(policy)
    assert policy["podSelector"]["matchLabels"].items() <= objects["Job"]["spec"]["template"]["metadata"]["labels"].items()


def test_wrong_input_ends_the_job_and_an_eviction_does_not(objects, pod):
    rules = objects["Job"]["spec"]["podFailurePolicy"]["rules"]
    assert [(rule["action"], rule.get("onExitCodes", {}).get("values")) for rule in rules] == [("FailJob", [2]), ("Ignore", None)]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 30
