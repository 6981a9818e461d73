"""What nginx is told."""

import re
from pathlib import Path

from bench.peers import nchan
from bench.peers.nchan import Nchan

CONFIG = nchan.config(Path("/somewhere"), Path("/modules/ngx_nchan_module.so"), 12345)


def test_it_listens_on_loopback_alone() -> None:
    assert re.findall(r"listen (\S+)", CONFIG) == ["127.0.0.1:12345"]


def test_one_process_serves_as_with_everybody_else() -> None:
    assert "worker_processes 1;" in CONFIG


def test_all_that_it_writes_is_below_its_folder() -> None:
    paths = re.findall(r"^\s*(?:pid|\w+_path) (\S+);", CONFIG, re.MULTILINE)
    assert len(paths) == 6
    assert all(path.startswith("/somewhere/") for path in paths)
    assert "access_log off;" in CONFIG
    assert "error_log stderr" in CONFIG


def test_publisher_and_subscribers_are_on_one_channel() -> None:
    assert re.findall(r"nchan_channel_id (\w+);", CONFIG) == ["bench", "bench"]


def test_its_blocks_are_closed() -> None:
    assert CONFIG.count("{") == CONFIG.count("}")


def test_the_folder_of_modules_is_what_nginx_says() -> None:
    said = "nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/usr --modules-path=/usr/lib/nginx/modules --x\n"
    assert nchan.modules_folder(said) == Path("/usr/lib/nginx/modules")


def test_an_nginx_without_modules_has_no_folder_of_them() -> None:
    assert nchan.modules_folder("nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/usr\n") is None


def test_whoever_comes_is_on_the_channel() -> None:
    first, second = Nchan().requests(2)
    assert first == second
    assert first.startswith(b"GET /ws HTTP/1.1\r\n")


def test_the_processes_say_which_they_are() -> None:
    assert [Nchan().process_name(number) for number in (0, 1)] == ["nginx master", "nginx worker"]
