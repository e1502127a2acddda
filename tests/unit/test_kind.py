# SPDX-License-Identifier: Apache-2.0
"""The demo on kind: its command line, its images, and files that must agree with one another."""

import io
import json
import re
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.kind import images
from deploy.kind.__main__ import main
from deploy.kind.cluster import Kind
from deploy.kind.demo import EXAMPLE, MONITORING, _mebibytes
from deploy.kind.images import BUILT, OF_CHART, Image, default, read, values
from headrace_cli.errors import CommandError
from tests.cluster.telemetry import DASHBOARDS, PROMETHEUS, REPOSITORY, SCRAPE

KIND = REPOSITORY / "deploy/kind/kind.yaml"


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def objects(name: str) -> dict[str, Any]:
    """Kind -> object, of what is applied for prometheus or grafana."""
    text = (MONITORING / name / f"{name}.yaml").read_text()
    return {item["kind"]: item for item in yaml.safe_load_all(text)}


def container(name: str) -> Any:
    (found,) = objects(name)["Deployment"]["spec"]["template"]["spec"]["containers"]
    return found


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is all of PATH."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", "")
    monkeypatch.setenv("KIND_EXPERIMENTAL_PROVIDER", "")
    return tmp_path


def program(folder: Path, name: str, script: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


def tar(path: Path, *names: str) -> Path:
    content = json.dumps([{"RepoTags": names}]).encode()
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("manifest.json")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    return path


def error(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line with which the command ends."""
    assert main([*words]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    return line


class TestCommandLine:
    def test_says_what_to_install(self, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        program(programs, "kubectl")
        line = error(capsys)
        assert "docker, kind, helm not found" in line
        assert "https://docs.docker.com" in line

    def test_says_what_to_start(self, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("kind", "kubectl", "helm"):
            program(programs, name)
        program(programs, "docker", "echo 'Cannot connect to the daemon' >&2; exit 1")
        assert "docker does not answer, start it: Cannot connect" in error(capsys)

    def test_takes_podman(self, programs: Path, capsys: pytest.CaptureFixture[str]) -> None:
        for name in ("kind", "kubectl", "helm"):
            program(programs, name)
        program(programs, "podman", "echo 'no machine runs' >&2; exit 1")
        assert "podman does not answer, start it: no machine runs" in error(capsys)

    def test_needs_no_kind_for_a_cluster_that_is_there(
        self, programs: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name in ("kubectl", "helm"):
            program(programs, name)
        line = error(capsys, "--kubeconfig", "nowhere")
        assert line == "kind-demo: --kubeconfig nowhere: there is no such file"

    def test_a_step_that_fails_says_so(
        self, programs: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        program(programs, "helm")
        program(programs, "kubectl", "echo no route; exit 7")
        kubeconfig = programs / "kubeconfig"
        kubeconfig.touch()
        assert main(["--kubeconfig", str(kubeconfig)]) == 1
        said = capfd.readouterr()
        assert "$ kubectl get nodes\n  no route\n" in said.out
        assert said.err == "kind-demo: kubectl get: status 7, see above.\n"


class TestImages:
    def test_a_tar_is_known_by_the_name_in_it(self, tmp_path: Path) -> None:
        path = tar(tmp_path / "x.tar", "localhost/operator:1")
        image = read(str(path))
        assert (image, image.role) == (Image("localhost/operator:1", path), "operator")

    @pytest.mark.parametrize(
        "names", [(), ("a/operator:1", "a/operator:2"), ("a/other:1",)], ids=["none", "two", "else"]
    )
    def test_other_tars_are_refused(self, tmp_path: Path, names: tuple[str, ...]) -> None:
        with pytest.raises(CommandError, match=r"--image .*one (image with one name|of operator)"):
            read(str(tar(tmp_path / "x.tar", *names)))

    def test_what_is_no_tar_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "x.tar").write_text("x")
        for name, message in (("x.tar", "not a tar"), ("y.tar", "no such file")):
            with pytest.raises(CommandError, match=message):
                read(str(tmp_path / name))

    @pytest.mark.parametrize(
        ("name", "values"),
        [
            ("r.io:5000/a/b/operator:1", "registry=r.io:5000 repository=a/b/operator tag=1"),
            ("operator", "registry=docker.io repository=operator"),
            ("me/operator:2", "registry=docker.io repository=me/operator tag=2"),
            (
                "localhost/operator@sha256:ab",
                "registry=localhost repository=operator digest=sha256:ab",
            ),
        ],
    )
    def test_a_name_becomes_values_of_the_chart(self, name: str, values: str) -> None:
        wanted = ",".join(f"operator.image.{each}" for each in values.split())
        assert Image(name).values() == wanted

    def test_the_chart_needs_no_value_for_its_own(self) -> None:
        chart = load(REPOSITORY / "helm/headrace/Chart.yaml")
        own = load(REPOSITORY / "helm/headrace/values.yaml")
        found = {}
        for role in OF_CHART:
            image = own["operator"]["image"] | {k: v for k, v in own[role]["image"].items() if v}
            name = f"{image['registry']}/{image['repository']}:{chart['appVersion']}"
            assert name == default(role)
            found[role] = Image(name)
        assert values(found) == []

    def test_none_takes_another_s_tag(self) -> None:
        found = {role: Image(default(role)) for role in OF_CHART}
        given = values(found | {"operator": Image("localhost/operator:1")})
        assert given[0] == (
            "operator.image.registry=localhost,operator.image.repository=operator,"
            "operator.image.tag=1"
        )
        assert [each.partition(".")[0] for each in given] == [*OF_CHART]
        assert given[2].startswith("connectivity.image.registry=ghcr.io,")

    def test_what_is_built_is_what_the_script_builds(self) -> None:
        script = (REPOSITORY / "deploy/images/build.sh").read_text()
        assert f"names=({' '.join(BUILT)})" in script
        for tenant in ("blue", "red"):
            text = (EXAMPLE / f"{tenant}.yaml").read_text()
            assert {*re.findall(r"image: (\S+)", text)} == {default("toolbox")}
        assert images.PULLED == ("prometheus", "grafana")


def test_quantities() -> None:
    assert [_mebibytes(each) for each in ("0", "1Gi", "512Mi", "2048Ki", "1048576")] == [
        *(0, 1024, 512, 2, 1)
    ]
    with pytest.raises(CommandError, match="1E"):
        _mebibytes("1E")


def test_kind_s_nodes_are_labelled_as_the_pipeline_selects() -> None:
    control_plane, *workers = load(KIND)["nodes"]
    assert "labels" not in control_plane
    assert [worker["labels"] for worker in workers] == [dict(Kind.labels)] * 2


def test_kind_s_port_leads_to_grafana() -> None:
    (mapping,) = load(KIND)["nodes"][0]["extraPortMappings"]
    (port,) = objects("grafana")["Service"]["spec"]["ports"]
    assert mapping["containerPort"] == port["nodePort"]
    assert mapping["listenAddress"] == "127.0.0.1"


def test_the_prometheus_of_the_tests_is_that_of_the_demo() -> None:
    module = (REPOSITORY / "tests/cluster/prometheus/go.mod").read_text()
    found = re.search(r"github.com/prometheus/prometheus v0\.(\d)(\d\d)\.(\d+) ", module)
    assert found is not None
    major, minor, patch = map(int, found.groups())
    version = f"{major}.{minor}.{patch}"
    assert container("prometheus")["image"] == f"docker.io/prom/prometheus:v{version}"
    assert PROMETHEUS.endswith(f":{version}")


class TestGrafanaIsProvisioned:
    """As its documentation says: "Provision Grafana", classic provisioning."""

    def files(self, kind: str) -> Any:
        """Of a folder of /etc/grafana/provisioning, by way of the mount that leads there."""
        (mount,) = (
            mount
            for mount in container("grafana")["volumeMounts"]
            if mount["mountPath"].startswith(f"/etc/grafana/provisioning/{kind}/")
        )
        assert mount["mountPath"].endswith(".yaml")
        assert mount["subPath"] in self.generated(mount["name"])
        return load(MONITORING / "grafana" / mount["subPath"])

    def generated(self, volume: str) -> list[str]:
        """The files in a volume."""
        volumes = objects("grafana")["Deployment"]["spec"]["template"]["spec"]["volumes"]
        (name,) = (each["configMap"]["name"] for each in volumes if each["name"] == volume)
        kustomization = load(MONITORING / "grafana/kustomization.yaml")
        (files,) = (
            made["files"] for made in kustomization["configMapGenerator"] if made["name"] == name
        )
        return [Path(file).name for file in files]

    def test_with_a_data_source(self) -> None:
        found = self.files("datasources")
        assert found["apiVersion"] == 1
        (source,) = found["datasources"]
        assert source.keys() <= {
            *("name", "uid", "type", "access", "url", "isDefault", "jsonData", "editable", "orgId")
        }
        assert (source["type"], source["access"]) == ("prometheus", "proxy")
        assert source["isDefault"]
        service = objects("prometheus")["Service"]
        (port,) = service["spec"]["ports"]
        host = f"{service['metadata']['name']}.{load_namespace('prometheus')}.svc"
        assert source["url"] == f"http://{host}:{port['port']}"
        # Grafana takes rates over at least four of these.
        (job,) = load(SCRAPE)["scrape_configs"]
        assert source["jsonData"]["timeInterval"] == job["scrape_interval"]

    def test_with_every_dashboard(self) -> None:
        found = self.files("dashboards")
        assert found["apiVersion"] == 1
        (provider,) = found["providers"]
        assert provider.keys() <= {"name", "folder", "type", "options", "orgId", "allowUiUpdates"}
        assert provider["type"] == "file"
        (mount,) = (
            mount
            for mount in container("grafana")["volumeMounts"]
            if mount["mountPath"] == provider["options"]["path"]
        )
        dashboards = {path.name: json.loads(path.read_text()) for path in DASHBOARDS.iterdir()}
        assert {*self.generated(mount["name"])} == dashboards.keys()
        environment = {each["name"]: each["value"] for each in container("grafana")["env"]}
        home = Path(environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"])
        assert str(home.parent) == mount["mountPath"]
        assert home.name in dashboards
        for dashboard in dashboards.values():
            (variable,) = (
                each for each in dashboard["templating"]["list"] if each["type"] == "datasource"
            )
            assert (variable["name"], variable["query"]) == ("datasource", "prometheus")


def load_namespace(name: str) -> str:
    return str(load(MONITORING / name / "kustomization.yaml")["namespace"])


def test_prometheus_has_what_its_configuration_names() -> None:
    config = load(MONITORING / "prometheus/config.yaml")
    (made,) = load(MONITORING / "prometheus/kustomization.yaml")["configMapGenerator"]
    names = {Path(file).name for file in made["files"]}
    assert {*config["scrape_config_files"], *config["rule_files"]} == names - {"config.yaml"}
    for file in made["files"]:
        assert (MONITORING / "prometheus" / file).is_file()
    assert "--config.file=/etc/prometheus/config.yaml" in container("prometheus")["args"]
