"""Every identifier of an image, derived from one seed.

The rule: an identifier is the name-based UUID of RFC 9562, section 5.5 (version 5), of the text ``LABEL:SEED`` in this
project's namespace; the FAT volume id is the first 32 bits of such a UUID. Labels are fixed and hold no colon, so no
two identifiers of one seed are made from the same text, and anyone can recompute them with ``uuidgen --sha1``.
"""

from __future__ import annotations

from uuid import UUID, uuid5

from attrs import frozen

NAMESPACE = UUID("6c2f0f3e-54e1-4f0b-9d0a-3f2b8f6a7c51")


@frozen(kw_only=True)
class Identifiers:
    """The identifiers of one image.

    :param disk_guid: of the partition table.
    :param esp_guid: of the EFI system partition (its ``PARTUUID``).
    :param root_guid: of the root partition (its ``PARTUUID``).
    :param root_uuid: of the root filesystem.
    :param hash_seed: seed of the root filesystem's directory hashes.
    :param volume_id: 32-bit volume id of the EFI system partition's FAT.
    """

    disk_guid: UUID
    esp_guid: UUID
    root_guid: UUID
    root_uuid: UUID
    hash_seed: UUID
    volume_id: int


def derive(seed: str) -> Identifiers:
    """The identifiers that belong to ``seed``: the same seed gives the same ones, everywhere and always.

    An image that is not to be deterministic is given a random seed by the caller.
    """

    def identifier(label: str) -> UUID:
        return uuid5(NAMESPACE, f"{label}:{seed}")

    return Identifiers(
        disk_guid=identifier("disk"),
        esp_guid=identifier("esp-partition"),
        root_guid=identifier("root-partition"),
        root_uuid=identifier("root-filesystem"),
        hash_seed=identifier("root-hash-seed"),
        volume_id=identifier("esp-volume-id").time_low,
    )


def image_file(seed: str) -> UUID:
    """The identifier of the image file itself, which VDI and VHD have."""
    return uuid5(NAMESPACE, f"image-file:{seed}")
