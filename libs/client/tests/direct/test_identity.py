"""Addresses, regions and credentials: what the SDK would do, read from it offline."""

from __future__ import annotations

import itertools
import json
import ssl
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from s3torch.client import CredentialsError, EngineContext, RegionError, S3ClientConfig, TLSError
from s3torch.client.direct import addresses
from s3torch.client.direct.addresses import BucketAddress, new_session
from s3torch.client.direct.identity import Identity

Profile = Callable[[str], None]


@pytest.fixture(autouse=True)
def nowhere(monkeypatch: pytest.MonkeyPatch, isolated: None) -> None:
    """Without the dummy environment's region, which most tests here give in other ways."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def profile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Profile:
    """Write the shared configuration file."""

    def write(text: str) -> None:
        path = tmp_path / "aws-config"
        path.write_text(text)
        monkeypatch.setenv("AWS_CONFIG_FILE", str(path))

    return write


def identity(
    region: str | None = "us-west-2",
    endpoint: str | None = None,
    clock: Callable[[], float] | None = None,
    **options: Any,
) -> Identity:
    context = EngineContext(region, endpoint, "test", S3ClientConfig(**options))
    return Identity(context) if clock is None else Identity(context, clock)


def url_of(address: BucketAddress) -> str:
    return f"{address.route.scheme}://{address.route.netloc}{address.prefix}"


# Regions


def test_a_region_that_is_given_wins(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    profile("[default]\nregion = eu-west-3\n")
    assert identity("us-west-2").region == "us-west-2"


def test_the_environments_region_comes_before_the_profiles(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    profile("[default]\nregion = eu-west-3\n[profile other]\nregion = eu-north-1\n")
    assert identity(None).region == "eu-west-3"
    assert identity(None, profile="other").region == "eu-north-1"
    monkeypatch.setenv("AWS_PROFILE", "other")
    assert identity(None).region == "eu-north-1"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    assert identity(None).region == "eu-west-2"
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    assert identity(None).region == "eu-west-1"


def test_no_region_is_an_error_with_amazon_and_none_elsewhere() -> None:
    with pytest.raises(RegionError, match="AWS_REGION"):
        _ = identity(None).region
    assert identity(None, "http://localhost:9000").region == "us-east-1"


def test_a_profile_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CredentialsError, match="nobody") as caught:
        _ = identity(None, profile="nobody").region
    assert caught.value.remedy


# Addresses, with boto3 as the oracle


def oracle(bucket: str, region: str, endpoint: str | None = None, *, path_style: bool = False) -> tuple[str, str, str]:
    """Ask boto3: the URL it would send a GET to, and the region and service of its signature's scope."""
    client = boto3.session.Session().client(
        "s3",
        region_name=region,
        endpoint_url=endpoint,
        config=Config(s3={"addressing_style": "path"} if path_style else None, proxies={}),
    )
    seen: list[Any] = []

    def keep(request: Any, **_: Any) -> AWSResponse:
        seen.append(request)
        answer = AWSResponse(request.url, 404, {}, None)
        answer._content = b""
        return answer

    client.meta.events.register("before-send.s3", keep)
    with pytest.raises(ClientError):
        client.get_object(Bucket=bucket, Key="key")
    authorization = seen[0].headers["Authorization"]
    text = authorization.decode() if isinstance(authorization, bytes) else authorization
    scope = text.partition("Credential=")[2].partition(",")[0].split("/")
    return seen[0].url, scope[2], scope[3]


ACCESS_POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/point"


@pytest.mark.parametrize("path_style", [False, True])
@pytest.mark.parametrize(
    ("bucket", "region", "endpoint"),
    [
        *itertools.product(
            ["bucket", "dotted.bucket"], ["us-east-1", "us-west-2", "cn-north-1", "us-gov-west-1"], [None]
        ),
        *itertools.product(
            ["bucket", "dotted.bucket"],
            ["us-east-1"],
            ["http://localhost:9000", "https://store.example", "http://127.0.0.1:9000", "http://[::1]:9000"],
        ),
    ],
)
def test_addresses_are_those_of_the_sdk(bucket: str, region: str, endpoint: str | None, *, path_style: bool) -> None:
    address = identity(region, endpoint, force_path_style=path_style).address(bucket)
    assert (f"{url_of(address)}/key", address.region, address.service) == oracle(
        bucket, region, endpoint, path_style=path_style
    )


@pytest.mark.parametrize("option", ["use_dualstack_endpoint", "use_accelerate_endpoint", "addressing_style"])
def test_the_profiles_addressing_is_the_sdks(profile: Profile, option: str) -> None:
    value = "path" if option == "addressing_style" else "true"
    profile(f"[default]\ns3 =\n    {option} = {value}\n")
    address = identity("eu-west-1").address("bucket")
    url, region, service = oracle("bucket", "eu-west-1")
    assert (f"{url_of(address)}/key", address.region, address.service) == (url, region, service)
    assert {"use_dualstack_endpoint": "dualstack", "use_accelerate_endpoint": "accelerate"}.get(
        option, "/bucket"
    ) in url


def test_an_access_point_is_where_the_sdk_has_it() -> None:
    address = identity("us-west-2").address(ACCESS_POINT)
    assert (f"{url_of(address)}/key", address.region, address.service) == oracle(ACCESS_POINT, "us-west-2")


def test_an_access_point_in_another_region_is_signed_for_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_USE_ARN_REGION", "true")
    address = identity("us-east-1").address(ACCESS_POINT)
    assert address.route.host == "point-123456789012.s3-accesspoint.us-west-2.amazonaws.com"
    assert (address.region, address.prefix) == ("us-west-2", "")


def test_a_directory_bucket_is_in_its_zone() -> None:
    address = identity("us-west-2").address("bucket--usw2-az1--x-s3")
    assert url_of(address) == "https://bucket--usw2-az1--x-s3.s3express-usw2-az1.us-west-2.amazonaws.com"
    assert (address.region, address.service) == ("us-west-2", "s3express")
    local = identity("us-west-2", "http://127.0.0.1:9000", force_path_style=True).address("bucket--usw2-az1--x-s3")
    assert url_of(local) == "http://127.0.0.1:9000/bucket--usw2-az1--x-s3"


def test_an_access_point_of_many_regions_is_an_error() -> None:
    # It would need signatures of another kind (SigV4A).
    with pytest.raises(ValueError, match="mrap"):
        identity("us-west-2").address("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap")


@pytest.mark.parametrize("bucket", ["no/slash", "sp ace", "", "x" * 300, "arn:aws:s3:::", "new\nline", "é"])
def test_what_cannot_be_a_bucket_is_a_value_error(bucket: str) -> None:
    with pytest.raises(ValueError):
        identity().address(bucket)


@pytest.mark.parametrize("endpoint", ["localhost:9000", "ftp://host", "http://", "http://host?x", "not a url"])
def test_what_cannot_be_an_endpoint_is_a_value_error(endpoint: str) -> None:
    with pytest.raises(ValueError):
        identity("us-east-1", endpoint).address("bucket")


def test_an_endpoint_may_have_a_path() -> None:
    address = identity("us-east-1", "http://gateway.example/s3/", force_path_style=True).address("bucket")
    assert url_of(address) == "http://gateway.example/s3/bucket"


def test_endpoints_come_from_where_the_sdk_has_them(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    profile(
        "[default]\nservices = local\nendpoint_url = http://profile.example:1\n"
        "[services local]\ns3 =\n    endpoint_url = http://profile-s3.example:2\n"
    )
    assert identity().endpoint == "http://profile-s3.example:2"
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://environment.example:3")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://environment-s3.example:4")
    store = identity()
    assert store.endpoint == "http://environment-s3.example:4"
    assert store.address("bucket").route.port == 4
    assert not store.is_amazon
    assert not store.is_tls
    assert identity(endpoint="http://given.example:5").endpoint == "http://given.example:5"
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    assert identity().is_amazon
    assert identity().is_tls


def test_amazon_is_known_by_its_name() -> None:
    assert identity("us-east-1").is_amazon
    assert identity("cn-north-1").is_amazon
    assert not identity(endpoint="https://s3.amazonaws.com.example").is_amazon


# What answers teach


def test_a_bucket_is_moved_once() -> None:
    who = identity("us-east-1")
    assert who.move("bucket", "eu-west-3")
    assert not who.move("bucket", "eu-west-3")
    assert who.address("bucket").route.host == "bucket.s3.eu-west-3.amazonaws.com"
    assert who.address("bucket").region == "eu-west-3"
    assert who.address("other").region == "us-east-1"


def test_a_redirect_keeps_the_style_of_the_address_it_names() -> None:
    who = identity("us-east-1")
    who.redirect("bucket", "https://bucket.s3-us-west-2.amazonaws.com/some/key?x=y")
    assert url_of(who.address("bucket")) == "https://bucket.s3-us-west-2.amazonaws.com"
    who.redirect("bucket", "https://s3-us-west-2.amazonaws.com/bucket/some/key")
    assert url_of(who.address("bucket")) == "https://s3-us-west-2.amazonaws.com/bucket"


# Attempts


def test_attempts_come_from_the_option_unless_it_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    assert identity().max_attempts == 10
    profile("[default]\nmax_attempts = 4\n")
    assert identity().max_attempts == 4
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "7")
    assert identity().max_attempts == 7
    assert identity(max_attempts=3).max_attempts == 3
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "0")
    assert identity().max_attempts == 1


@pytest.mark.parametrize("value", ["many", "1.5"])
def test_attempts_that_are_no_number_are_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", value)
    with pytest.raises(ValueError):
        _ = identity().max_attempts


# Proxies


def test_proxies_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://secure-proxy:1")
    monkeypatch.setenv("http_proxy", "http://plain-proxy:2")
    monkeypatch.setenv("NO_PROXY", "internal.example,10.0.0.1,.local.example,::1")

    def proxy_of(endpoint: str | None) -> str | None:
        proxy = identity("us-east-1", endpoint, force_path_style=True).address("bucket").route.proxy
        return None if proxy is None else proxy.host

    assert proxy_of(None) == "secure-proxy"
    assert proxy_of("https://store.example") == "secure-proxy"
    assert proxy_of("http://store.example") == "plain-proxy"
    assert proxy_of("http://internal.example:9000") is None
    assert proxy_of("http://sub.internal.example") is None
    assert proxy_of("https://10.0.0.1") is None
    assert proxy_of("http://a.local.example") is None
    assert proxy_of("http://notinternal.example") == "plain-proxy"
    monkeypatch.setenv("NO_PROXY", "*")
    assert proxy_of("https://store.example") is None


# Trust


def test_the_system_is_trusted_unless_a_bundle_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    context = identity().tls()
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    with pytest.raises(TLSError, match=r"missing\.pem"):
        identity().tls()
    with pytest.raises(TLSError, match=r"other\.pem"):
        identity(ca_bundle=str(tmp_path / "other.pem")).tls()


# Credentials


def test_credentials_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")
    credentials = identity().credentials("bucket")
    assert credentials is not None
    assert (credentials.access_key, credentials.secret_key, credentials.token) == ("AKID", "secret", "token")
    assert identity(unsigned=True).credentials("bucket") is None


def test_credentials_come_from_a_profile(monkeypatch: pytest.MonkeyPatch, profile: Profile) -> None:
    profile("[profile other]\naws_access_key_id = AKIDOTHER\naws_secret_access_key = secret\n")
    credentials = identity(profile="other").credentials("bucket")
    assert credentials is not None
    assert (credentials.access_key, credentials.token) == ("AKIDOTHER", None)


def test_no_credentials_are_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(CredentialsError) as caught:
        identity().credentials("bucket")
    for hint in ("AWS_ACCESS_KEY_ID", "profile", "role", "unsigned"):
        assert hint in str(caught.value)


def test_half_a_pair_of_keys_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    with pytest.raises(CredentialsError):
        identity().credentials("bucket")


def test_credentials_that_expire_are_refreshed(
    monkeypatch: pytest.MonkeyPatch, profile: Profile, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    soon = datetime.now(timezone.utc) + timedelta(seconds=-10)
    later = datetime.now(timezone.utc) + timedelta(hours=2)
    answers = [
        {"Version": 1, "AccessKeyId": f"AKID{n}", "SecretAccessKey": "s", "Expiration": moment.isoformat()}
        for n, moment in enumerate((soon, later, later))
    ]
    script = tmp_path / "keys.py"
    script.write_text(
        "import json, pathlib\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "n = int(count.read_text()) if count.exists() else 0\n"
        "count.write_text(str(n + 1))\n"
        f"print(json.dumps(json.loads({json.dumps(answers)!r})[n]))\n"
    )
    profile(f"[default]\ncredential_process = {sys.executable} {script}\n")
    who = identity()
    for _ in range(3):
        credentials = who.credentials("bucket")
        assert credentials is not None
        assert credentials.access_key == "AKID1", "the first ones had expired when they came"
    assert who.renew_credentials("bucket")
    renewed = who.credentials("bucket")
    assert renewed is not None
    assert renewed.access_key == "AKID2"


def test_keys_that_do_not_change_cannot_be_renewed() -> None:
    who = identity()
    who.credentials("bucket")
    assert not who.renew_credentials("bucket")


def test_what_names_addresses_is_made_once_for_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_S3_US_EAST_1_REGIONAL_ENDPOINT", "regional")  # no other test's
    made: list[str] = []
    create = botocore.session.Session.create_client

    def create_client(session: Any, service: str, **options: Any) -> Any:
        made.append(options["region_name"])
        return create(session, service, **options)

    monkeypatch.setattr(botocore.session.Session, "create_client", create_client)
    assert identity("eu-west-1").address("one").route.host == "one.s3.eu-west-1.amazonaws.com"
    assert identity("eu-west-1").address("two").route.host == "two.s3.eu-west-1.amazonaws.com"
    assert identity("eu-west-1").endpoint == "https://s3.eu-west-1.amazonaws.com"
    assert made == ["eu-west-1"]
    identity("eu-west-1", force_path_style=True).address("one")
    identity("eu-west-3").address("one")
    assert made == ["eu-west-1", "eu-west-1", "eu-west-3"]


def test_a_change_of_the_environment_or_its_files_is_seen_by_the_next_client(
    monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    profile("[default]\nregion = eu-west-1\n")
    assert identity(None).address("one").region == "eu-west-1"
    profile("[default]\nregion = eu-west-3\nendpoint_url = http://localhost:9000\n")
    assert identity(None).address("one").region == "eu-west-3"
    assert identity(None).endpoint == "http://localhost:9000"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://localhost:9001")
    assert identity(None).endpoint == "http://localhost:9001"


def test_secrets_are_no_part_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-to-be-kept")
    assert "not-to-be-kept" not in repr(addresses._surroundings())


def test_threads_name_addresses_at_once() -> None:
    names = [f"bucket-{number}" for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: identity().address(name).route.host, names))
    assert found == [f"{name}.s3.us-west-2.amazonaws.com" for name in names]


def test_descriptions_of_services_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def loader() -> Any:
        return new_session(None).get_component("data_loader")

    first = loader()
    assert loader() is first
    monkeypatch.setenv("AWS_DATA_PATH", str(tmp_path))
    assert loader() is not first
    assert str(tmp_path) in loader().search_paths
