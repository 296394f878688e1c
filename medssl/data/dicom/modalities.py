"""The codes of modalities (PS3.3 C.7.3.1.1.1), and which of them store slices of volumes."""

SLICES = frozenset({"CT", "MR", "PT", "NM"})
WITHOUT_HU = "CT without HU"  # a CT that states no rescale to HU: no window in HU fits its values
_CODES = """AR ASMT AU BDUS BI BMD CR CT CTPROTOCOL DG DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO LEN LS M3D MG MR
    NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD
    RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC"""
_RETIRED = "AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF"
_KNOWN = frozenset(f"{_CODES} {_RETIRED}".split())
STACKS = SLICES - {"NM"}  # modalities whose slices always have a place in space; nuclear medicine stores planar images, too


def known_code(text: str) -> str:
    """The code of a modality that the element states; "" for any other text, which may be private."""
    return code if (code := text.strip()) in _KNOWN else ""
